"""The record of a run: a folder of plain files that the run fills, and that MLflow is written from."""

import errno
import json
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any

import psutil

from kdad.errors import InputError
from kdad.storage.replacing import link_or_copy, replace_text

logger = logging.getLogger(__name__)

_TEXT_LIMIT = 5000  # characters of a tag
_PARAMETER_LIMIT = 6000
_HEAD, _STATUS, _SENT = "run.json", "status.json", "sent.json"
#: Names the run's folder to worker processes.
_VARIABLE = "KDAD_TRACKED_RUN"


def _guarded(write: Callable[..., None]) -> Callable[..., None]:
    """Have a method of a run say, once, what the disk does not take, rather than raise it."""

    @wraps(write)
    def guarded(run: "TrackedRun", *arguments: Any) -> None:
        try:
            write(run, *arguments)
        except (OSError, InputError) as error:  # a full disk may be either
            if not run.is_incomplete:
                logger.warning("not all that the run logs could be kept in %s: %s", run.path, error)
            run.is_incomplete = True

    return guarded


@dataclass
class TrackedRun:
    """What a run, or a child, logs, in a folder; nothing that MLflow or the disk does is raised to who logs.

    ``params``, ``tags``, ``metrics``, ``inputs``, ``models`` and ``nodes`` are files of JSON lines that any process
    appends to; ``artifacts/`` holds files as MLflow shall show them, ``children/`` the same folders of children,
    ``status.json`` how the run has ended, and ``sent.json`` what MLflow has: IDs, and bytes of each file.
    """

    path: Path
    is_incomplete: bool = False
    _process: int = field(default_factory=os.getpid)
    _points: set[tuple[str, int]] = field(default_factory=set)

    # What logs a run calls these.

    @property
    def is_owner(self) -> bool:
        """Whether this process has begun it, and is no worker that was forked from it."""
        return self._process == os.getpid()

    def parameters(self, values: dict[str, Any]) -> None:
        """Record parameters; one that is too long for MLflow becomes a tag as far as it fits."""
        texts = {name: str(value) for name, value in values.items()}
        short = {name: text for name, text in texts.items() if len(text) <= _PARAMETER_LIMIT}
        self._append("params", list(short.items()))
        self.tags({name: text for name, text in texts.items() if name not in short})

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Record numbers."""
        time_now = _now()
        self._append("metrics", [(name, float(value), time_now, step) for name, value in values.items()])

    def series(self, metrics: list[tuple[str, float, int, int]]) -> None:
        """Record metrics: name, value, milliseconds since 1970, step; what it has of a name and step stays."""
        new = [point for point in metrics if (point[0], point[3]) not in self._points]
        self._points.update((point[0], point[3]) for point in new)
        self._append("metrics", new)

    def tags(self, values: dict[str, Any]) -> None:
        """Record tags; `destination.RUN_ID` in a text becomes MLflow's ID."""
        self._append("tags", [(name, str(value)[:_TEXT_LIMIT]) for name, value in values.items()])

    def inputs(self, datasets: list[dict[str, Any]]) -> None:
        """Record data sets.

        Each has a ``dataset`` (name, digest, source_type, source, schema, profile) and its ``context``.
        """
        self._append("inputs", datasets)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Record a file, or what is in a folder, as it is now; `folder` is where it goes, None the top."""
        for file in sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]:
            inside = file.relative_to(path if path.is_dir() else path.parent)
            self._place(Path("artifacts", folder or "", inside), partial(shutil.copyfile, file))

    def text(self, text: str, name: str) -> None:
        """Record a text file of that name."""
        self._place(Path("artifacts", name), lambda target: target.write_text(text, encoding="utf-8"))

    def model(self, folder: Path, requirements: list[str], register: str | None = None, champion: bool = False) -> None:
        """Record a detector's folder as a model; `register` names it in the registry, `champion` moves the alias there.

        `requirements` are what pip installs to predict with it. The folder's files are replaced, never written into.
        """
        kept = Path("models", str(time.time_ns()), folder.name)
        self._place(kept, lambda target: shutil.copytree(folder, target, copy_function=link_or_copy))
        wanted = {"requirements": requirements, "register": register, "champion": champion}
        self._append("models", [{"folder": kept.as_posix(), **wanted}])

    def node(self, name: str, seconds: float, load_seconds: float, save_seconds: float, made: str) -> None:
        """Note a node that has run, in whichever process: from the first on there is something to log.

        Its `seconds` include those of loading its inputs and of saving what it `made`.
        """
        times = {"seconds": seconds, "load_seconds": load_seconds, "save_seconds": save_seconds}
        rounded = {column: round(value, 3) for column, value in times.items()}
        self.metrics({f"seconds.{name}": rounded["seconds"]})
        self._append("nodes", [{"node": name, **rounded, "made": made}])

    def fail(self, error: str) -> None:
        """Record why the run failed; it is logged even when no node has run."""
        self.tags({"error": error})
        self.mark_begun()

    def mark_begun(self) -> None:
        """Have the run logged, whether or not a node has run."""
        self._append("nodes", [] if self.has_begun else [{}])

    def child(self, name: str, tags: dict[str, str]) -> "TrackedRun":
        """Begin a child run."""
        self.mark_begun()
        return _begin(self.path / "children", name=name, tags=tags, parent=None)

    @_guarded
    def end(self, status: str, milliseconds: int | None = None) -> None:
        """End the run, and children that are open with it, as FINISHED, FAILED or KILLED; what has ended stays."""
        for run in (*self.children, self):
            if run.status is None and run.head:
                ending = {"status": status, "time": milliseconds or _now()}
                replace_text(run.path / _STATUS, json.dumps(ending))

    def identity(self) -> str:
        """Return MLflow's ID, or the run's own key while MLflow has given none."""
        return self.sent.get("id") or self.key

    @property
    def experiment(self) -> str | None:
        """MLflow's ID of its experiment; None while MLflow has not taken the run."""
        return self.sent.get("experiment")

    # What writes it to MLflow calls these.

    @property
    def key(self) -> str:
        """The name by which MLflow knows the run, before it has given it an ID."""
        return self.path.name.rpartition("-")[2]

    @property
    def head(self) -> dict[str, Any]:
        """What it was begun with: ``name``, ``tags``, ``parent``, ``time``, ``owner``, and its ``destination``."""
        return _read(self.path / _HEAD)

    @property
    def status(self) -> dict[str, Any] | None:
        """How and when it has ended: ``status``, ``time``; None while it goes on."""
        return _read(self.path / _STATUS) or None

    @property
    def sent(self) -> dict[str, Any]:
        """What MLflow has: ``id`` and ``experiment``, bytes by kind, and the ``status``."""
        return _read(self.path / _SENT)

    @property
    def children(self) -> "list[TrackedRun]":
        """The children that are not wholly in MLflow, in the order in which they have begun."""
        return runs_in(self.path / "children")

    @property
    def has_begun(self) -> bool:
        """Whether any node has run, or the run has failed before one could: until then nothing is sent."""
        return (self.path / "nodes.jsonl").exists()

    @property
    def is_orphan(self) -> bool:
        """Whether the process that has begun it is gone, or has given it up; one of another host is thought to live."""
        owner = self.head.get("owner")
        return owner is None or (owner["host"] == socket.gethostname() and owner != _process(owner["pid"]))

    def lines(self, kind: str, start: int = 0) -> tuple[list[Any], int]:
        """Return the whole lines of a kind from a byte on, and the byte after them; a torn one is left out."""
        path = self.path / f"{kind}.jsonl"
        if not path.exists():
            return [], start
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        return [line for line in map(_parse, whole.splitlines()) if line is not None], start + len(whole)

    def note(self, **facts: Any) -> dict[str, Any]:
        """Note what MLflow has now; return all of it."""
        sent = self.sent | facts
        replace_text(self.path / _SENT, json.dumps(sent))
        return sent

    def keep_refused(self, kind: str, items: list[Any], reason: str) -> None:
        """Keep aside what MLflow has refused, a file or folder or the text of anything else, and the reason."""
        root = self.path.parents[1] if self.path.parent.name == "children" else self.path
        refused = root / "refused" / self.key
        refused.mkdir(parents=True, exist_ok=True)
        texts = [str(item.relative_to(self.path)) if isinstance(item, Path) else item for item in items]
        TrackedRun(refused)._append("refused", [{kind: texts, "reason": reason}])
        for item in items:
            if isinstance(item, Path):
                target = refused / item.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                item.replace(target)

    def kill(self) -> None:
        """End as KILLED, when it was last written to, a run whose process is gone."""
        last = max(path.stat().st_mtime for path in self.path.rglob("*.json*") if path.name != _SENT)
        self.end("KILLED", int(last * 1000))

    def give_up(self) -> None:
        """Leave what is not in MLflow to the next run, of this process or another."""
        self._write_head(self.head | {"owner": None})

    def remove(self) -> None:
        """Remove the folder, but for what MLflow has refused."""
        (self.path / _HEAD).unlink(missing_ok=True)  # first: what is left of it after a kill is no run
        for path in list(self.path.glob("*")):
            if path.name != "refused":
                remove(path)
        if not (self.path / "refused").exists():
            remove(self.path)

    @_guarded
    def _append(self, kind: str, lines: list[Any]) -> None:
        if not lines:
            return
        # One write, so that no other comes between; the first newline ends what a full disk has torn before.
        text = "\n".join(["", *map(json.dumps, lines), ""]).encode()
        with (self.path / f"{kind}.jsonl").open("ab", buffering=0) as file:
            if file.write(text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)

    @_guarded
    def _place(self, name: Path, write: Callable[[Path], Any]) -> None:
        """Put a file or folder at `name`, whole: `write` is given the place to write it to."""
        begun, target = self.path / "partial" / uuid.uuid4().hex, self.path / name
        for path in (begun, target):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(begun)
            os.replace(begun, target)
        finally:
            remove(begun)

    @_guarded
    def _write_head(self, head: dict[str, Any]) -> None:
        replace_text(self.path / _HEAD, json.dumps(head))


def record_run(
    waiting: Path, name: str, tags: dict[str, str], parent: str | None, destination: dict[str, Any]
) -> TrackedRun:
    """Begin to record a run of this process, whose parent has an ID of MLflow."""
    run = _begin(waiting, name=name, tags=tags, parent=parent, destination=destination)
    os.environ[_VARIABLE] = json.dumps([str(run.path), os.getpid()])
    return run


def forget_run() -> None:
    """Let no worker that is begun later take part in the run."""
    os.environ.pop(_VARIABLE, None)


def run_of_parent() -> TrackedRun | None:
    """Return the run that this process, a worker, takes part in; None in a process of its own."""
    given = os.environ.get(_VARIABLE)
    return None if given is None else _run_of(given, os.getpid())


def runs_in(folder: Path) -> list[TrackedRun]:
    """List the runs that are recorded in a folder, the oldest first."""
    return sorted((TrackedRun(path.parent) for path in folder.glob(f"*/{_HEAD}")), key=lambda run: run.head["time"])


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _run_of(given: str, process: int) -> TrackedRun | None:
    folder, owner = json.loads(given)
    return TrackedRun(Path(folder)) if owner != process else None


def _begin(below: Path, **head: Any) -> TrackedRun:
    run = TrackedRun(below / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex}")
    run._write_head({**head, "time": _now(), "owner": _process(os.getpid())})
    return run


def _now() -> int:
    return int(time.time() * 1000)  # as MLflow has it


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # not written yet; or someone has cleared the project
        return {}


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # a process was killed, or the disk was full, while it wrote
        return None


def _process(pid: int) -> dict[str, Any] | None:
    """Return what tells a living process from others that had its number; None when there is none."""
    try:
        return {"host": socket.gethostname(), "pid": pid, "began": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return None
