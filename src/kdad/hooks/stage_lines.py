"""What a run says while it goes on: a line for each node that is done, and on a terminal a bar of all their time."""

import json
import logging
import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
from kedro.framework.hooks import hook_impl
from rich.progress import Progress, TaskID, TaskProgressColumn

from kdad.errors import PLAIN, InputError
from kdad.hooks.run_tracking import CurrentRun
from kdad.progress import format_duration, progress_bar
from kdad.storage.replacing import read_facts, replace_text

logger = logging.getLogger(__name__)

#: Below the project: the seconds of each node when it last ran, by which the next run's bar weighs it.
SECONDS = Path("mlruns") / "node_seconds.json"
#: Seconds of nodes that have never run here and are long, by what is in their names, on the embedded textures.
_TYPICAL = {"fit_detector": 60.0, "train_teachers": 300.0, "_run_": 300.0, "map_images": 15.0, "predict_images": 20.0}
_SHORT = 200  # characters of what is quoted


@dataclass
class _NodeTimes:
    """When a node's first input was asked for, its function began and ended, and which outputs are not saved yet."""

    began: float
    called: float = 0.0
    returned: float = 0.0
    unsaved: frozenset[str] = frozenset()
    made: str = ""


class StageLinesHook:
    """Says ``3/15 mkd_fit_detector: 4.2 s`` when a node is done, in place of Kedro's pairs of lines, and records it.

    A node's seconds are all that the run spends on it: loading its inputs, the function, saving and logging its
    outputs. Of these, loading and saving are recorded apart too.
    """

    def __init__(self, current: CurrentRun) -> None:
        self._current = current
        self._began, self._nodes = perf_counter(), {}
        self._numbers, self._total = count(1), ""
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._seconds: dict[str, float] = {}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any) -> None:
        """Count the nodes, and show a bar where no other process or thread writes on the terminal."""
        self._began, self._numbers = perf_counter(), count(1)
        self._nodes.clear()  # of an earlier run that has failed
        # How many of them are left out is not known here.
        self._total = "" if run_params.get("only_missing_outputs") else f"/{len(pipeline.nodes)}"
        self.close()
        self._seconds = read_facts(self._current.project / SECONDS)
        if "SequentialRunner" in str(run_params.get("runner")) and self._total:
            self._bar = progress_bar(amount=TaskProgressColumn())
            self._task = self._bar.add_task("", total=sum(self._weight(node.name) for node in pipeline.nodes))
            self._bar.start()

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Any) -> None:
        """Note the time, and name the node on the bar."""
        self._begin(node)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Any) -> None:
        """Note the time; a node without inputs begins here."""
        self._begin(node).called = perf_counter()

    @hook_impl(trylast=True)
    def after_node_run(self, node: Any, outputs: dict[str, Any]) -> None:
        """Note the time and what was made, whichever process it was made in."""
        times = self._nodes[node.name]
        times.returned, times.unsaved = perf_counter(), frozenset(outputs)
        run = self._current.tracked
        if run is not None:
            run.mark_begun()  # what is saved may ask MLflow for the run's ID
            times.made = "; ".join(f"{name}: {_describe(data)}" for name, data in outputs.items())
        if not outputs:
            self._end(node, times)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str, node: Any) -> None:
        """When all outputs are saved, and the other hooks are done with them, say and record the node."""
        times = self._nodes[node.name]
        times.unsaved -= {dataset_name}
        if not times.unsaved:
            self._end(node, times)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Say how long all of it took, and remember what each node did."""
        self.close()
        path = self._current.project / SECONDS
        if path.parent.is_dir():  # else nothing is logged there
            with suppress(OSError, InputError):  # a full disk, or another run that ends
                replace_text(path, json.dumps(self._seconds))
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

    def _weight(self, name: str) -> float:
        typical = next((seconds for word, seconds in _TYPICAL.items() if word in name), 1.0)
        return self._seconds.get(name, typical)

    def _begin(self, node: Any) -> _NodeTimes:
        if node.name not in self._nodes:
            self._nodes[node.name] = _NodeTimes(perf_counter())
            if self._bar is not None:
                self._bar.update(self._task, description=node.name)
        return self._nodes[node.name]

    def _end(self, node: Any, times: _NodeTimes) -> None:
        """Say a node and how long it took."""
        del self._nodes[node.name]
        ended = perf_counter()
        # A worker process does not know how many nodes the others have done.
        number = f"{next(self._numbers)}{self._total} " if multiprocessing.parent_process() is None else ""
        seconds = ended - times.began
        logger.info("%s%s: %s", number, node.name, format_duration(seconds), extra=PLAIN)
        if self._bar is not None:
            self._bar.advance(self._task, self._weight(node.name))
        self._seconds[node.name] = round(seconds, 3)
        run = self._current.tracked
        if run is not None:
            loading, saving = times.called - times.began, ended - times.returned
            run.node(node.name, seconds, loading, saving, times.made)


def _describe(data: Any) -> str:
    """Say in a few words what an output is."""
    if isinstance(data, pd.DataFrame):
        return f"table of {len(data)} rows: {', '.join(map(str, data.columns))}"
    if hasattr(data, "shape"):
        return f"array {tuple(data.shape)}"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{name}: {_describe(value)}" for name, value in data.items()) + "}"
    if isinstance(data, float):
        return f"{data:.6g}"
    if isinstance(data, str | bytes) and (len(data) > _SHORT or isinstance(data, bytes)):
        return f"{'text' if isinstance(data, str) else 'file'} of {max(len(data) / 1000, 0.1):,.1f} kB"
    if isinstance(data, list | tuple) and len(str(data)) > _SHORT:
        return f"{len(data)} of {_describe(data[0])}"
    if isinstance(data, str | int | list | tuple | None):
        return "nothing" if data is None else str(data).replace("\n", " ")
    return type(data).__name__
