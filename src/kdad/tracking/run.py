"""A run that is recorded: what it logs goes to its spool, and from there to MLflow."""

import json
import logging
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdad.tracking.destination import Destination
from kdad.tracking.sender import Sender
from kdad.tracking.spool import Spool

logger = logging.getLogger(__name__)

_TEXT_LIMIT = 5000  # characters of a tag
_PARAMETER_LIMIT = 6000
#: Names the spool and the run to worker processes.
_VARIABLE = "KDAD_TRACKED_RUN"


@dataclass
class TrackedRun:
    """A run, or a child, whose records are kept on disk first; no call raises for what MLflow or the disk does.

    `begun_with` are the tags that it was begun with.
    """

    spool: Spool
    key: str
    begun_with: dict[str, str] = field(default_factory=dict)
    _children: dict[str, "TrackedRun"] = field(default_factory=dict)
    is_open: bool = True
    _process: int = field(default_factory=os.getpid)

    @property
    def is_owner(self) -> bool:
        """Whether this process has begun it, and is no worker that was forked from it."""
        return self._process == os.getpid()

    def parameters(self, values: dict[str, Any]) -> None:
        """Record parameters; one that is too long for MLflow becomes a tag as far as it fits."""
        texts = {name: str(value) for name, value in values.items()}
        short = {name: text for name, text in texts.items() if len(text) <= _PARAMETER_LIMIT}
        if short:
            self._add("parameters", parameters=short)
        self.tags({name: text for name, text in texts.items() if name not in short})

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Record numbers."""
        now = _now()
        self.series([(name, float(value), now, step) for name, value in values.items()])

    def series(self, metrics: list[tuple[str, float, int, int]]) -> None:
        """Record metrics: name, value, milliseconds since 1970, step."""
        if metrics:
            self._add("metrics", metrics=metrics)

    def tags(self, values: dict[str, Any]) -> None:
        """Record tags; `RUN_ID` in a text becomes MLflow's ID."""
        if values:
            self._add("tags", tags={name: str(value)[:_TEXT_LIMIT] for name, value in values.items()})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Record a file, or what is in a folder, as it is now; `folder` is where it goes, None the top."""
        self._guard(lambda: self.spool.add_file(self.key, path, folder=folder))

    def model(self, folder: Path, requirements: list[str], register: str | None = None, champion: bool = False) -> None:
        """Record a detector's folder as a model; `register` names it in the registry, `champion` moves the alias there.

        `requirements` are what pip installs to judge with it.
        """
        facts = {"requirements": requirements, "register": register, "champion": champion}
        self._guard(lambda: self.spool.add_file(self.key, folder, "model", **facts))

    def text(self, text: str, name: str) -> None:
        """Record a text file of that name."""
        self._add("text", text=text, name=name)

    def node(self, name: str, seconds: float, load_seconds: float, save_seconds: float, made: str) -> None:
        """Note a node that has run, in whichever process: from the first on there is something to log.

        Its `seconds` include those of loading its inputs and of saving what it `made`.
        """
        times = {"seconds": seconds, "load_seconds": load_seconds, "save_seconds": save_seconds}
        rounded = {column: round(value, 3) for column, value in times.items()}
        self._guard(lambda: self.spool.add_node({"node": name, **rounded, "made": made}))

    def fail(self, error: str) -> None:
        """Record why the run failed; it is logged even when no node has run."""
        self.tags({"error": error})
        self.mark_begun()

    def mark_begun(self) -> None:
        """Have the run logged, whether or not a node has run."""
        self._guard(self.spool.mark_begun)

    def inputs(self, found: list[dict[str, Any]]) -> None:
        """Record data sets.

        Each has a ``dataset`` (name, digest, source_type, source, schema, profile) and its ``context``.
        """
        if found:
            self._add("inputs", inputs=found)

    def child(self, name: str, tags: dict[str, str]) -> "TrackedRun":
        """Begin a child run."""
        made = TrackedRun(self.spool, uuid.uuid4().hex, tags)
        self._children[made.key] = made
        made._add("create", name=name, tags=tags, parent=self.key, time=_now())
        return made

    def end(self, status: str) -> None:
        """End the run, and children that are open with it, as FINISHED, FAILED or KILLED."""
        for child in self._children.values():
            child.end(status)
        if self.is_open:
            self.is_open = False
            self._add("end", status=status, time=_now())

    def identity(self, patience: float = 0.0) -> str:
        """Return MLflow's ID, or the run's own key when MLflow has given none within `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            found = self.spool.sent.get(self.key, {}).get("id")
            if found or time.monotonic() >= until:
                return found or self.key
            time.sleep(0.05)

    def _add(self, what: str, **content: Any) -> None:
        self._guard(lambda: self.spool.add(self.key, what, **content))

    def _guard(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            logger.warning("what the run logs could not be kept in %s: %s", self.spool.folder, error)


def begin_run(
    destination: Destination, waiting: Path, name: str, tags: dict[str, str], parent: str | None
) -> tuple[TrackedRun, Sender]:
    """Begin a run of this process; return it and its sender. `waiting` is where records wait to be sent."""
    spool = Spool.begin(waiting, destination.plain())
    run = TrackedRun(spool, uuid.uuid4().hex, tags)
    spool.add(run.key, "create", name=name, tags=tags, parent=parent, time=_now())
    os.environ[_VARIABLE] = json.dumps([str(spool.folder), run.key, tags, os.getpid()])
    return run, Sender(spool, run.key, destination, waiting)


def forget_run() -> None:
    """Let no worker that is begun later take part in the run."""
    os.environ.pop(_VARIABLE, None)


def run_of_parent() -> TrackedRun | None:
    """Return the run that this process, a worker, takes part in; None in a process of its own."""
    given = os.environ.get(_VARIABLE)
    if given is None:
        return None
    folder, key, tags, owner = json.loads(given)
    return TrackedRun(Spool(Path(folder)), key, tags) if owner != os.getpid() else None


def _now() -> int:
    return int(time.time() * 1000)
