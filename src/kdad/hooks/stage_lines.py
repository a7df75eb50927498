"""What a run says while it goes on: a line for each node that is done, and on a terminal a bar of all of them."""

import logging
import multiprocessing
from itertools import count
from time import perf_counter
from typing import Any

from kedro.framework.hooks import hook_impl
from rich.progress import Progress, TaskID

from kdad.logs import PLAIN
from kdad.progress import progress_bar

logger = logging.getLogger(__name__)


class StageLinesHook:
    """Says ``3/15 mkd_fit_detector: 4.2 s`` when a node is done, in place of Kedro's pairs of lines."""

    def __init__(self) -> None:
        self._began, self._started = perf_counter(), {}
        self._numbers, self._total = count(1), ""
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any) -> None:
        """Count the nodes, and show a bar where no other process or thread writes on the terminal."""
        self._began, self._numbers = perf_counter(), count(1)
        # How many of them are left out is not known here.
        self._total = "" if run_params.get("only_missing_outputs") else f"/{len(pipeline.nodes)}"
        self.close()
        if "SequentialRunner" in str(run_params.get("runner")) and self._total:
            self._bar = progress_bar()
            self._task = self._bar.add_task("", total=len(pipeline.nodes))
            self._bar.start()

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        """Note the time, and name the node on the bar."""
        self._started[node.name] = perf_counter()
        if self._bar is not None:
            self._bar.update(self._task, description=node.name)

    @hook_impl
    def after_node_run(self, node: Any, outputs: dict[str, Any]) -> None:
        """Say the node and how long it took; of a case, whether it was found done or failed."""
        seconds = format_duration(perf_counter() - self._started.pop(node.name))
        # A worker process does not know how many nodes the others have done.
        number = f"{next(self._numbers)}{self._total} " if multiprocessing.parent_process() is None else ""
        logger.info("%s%s: %s%s", number, node.name, seconds, _ending(outputs), extra=PLAIN)
        if self._bar is not None:
            self._bar.advance(self._task)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Say how long all of it took."""
        self.close()
        logger.info("Done in %s", format_duration(perf_counter() - self._began))

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def format_duration(seconds: float) -> str:
    """Return a duration as people say it: ``4.2 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _ending(outputs: dict[str, Any]) -> str:
    for result in outputs.values():
        if getattr(result, "status", None) == "failed":
            return ", failed"
        if getattr(result, "reused", None) is True:
            return ", found done"
    return ""
