"""Records of a run on disk, in order, until MLflow has them."""

import itertools
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kdad.storage.replacing import replace_text

#: In a tag: MLflow's ID of the run, known when the record is sent; as it is in a link too.
RUN_ID = "__run_id__"
#: The same of its experiment.
EXPERIMENT_ID = "__experiment_id__"
_HEAD, _SENT, _RECORDS, _FILES, _REFUSED = "head.json", "sent.json", "records", "files", "refused"
_BEGUN, _NODES = "begun", "nodes.jsonl"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Spool:
    """A folder that holds what a run and its children log: a JSON file a record, and copies of their files.

    Any process may add records; one delivers them (`delivery.deliver`) and takes them out. ``sent.json`` holds, by the
    runs' own keys, MLflow's IDs and which runs have ended.
    """

    folder: Path

    @classmethod
    def begin(cls, below: Path, destination: dict[str, Any]) -> "Spool":
        """Make a spool for a run of this process."""
        spool = cls(below / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}")
        for name in (_RECORDS, _FILES):
            (spool.folder / name).mkdir(parents=True)
        replace_text(spool.folder / _HEAD, json.dumps({"destination": destination, "owner": _this_process()}))
        return spool

    @classmethod
    def find(cls, below: Path) -> "list[Spool]":
        """List the spools in a folder, the oldest first."""
        return [cls(path.parent) for path in sorted(below.glob(f"*/{_HEAD}"))]

    @property
    def destination(self) -> dict[str, Any]:
        """Where its runs go."""
        return json.loads((self.folder / _HEAD).read_text(encoding="utf-8"))["destination"]

    @property
    def is_orphan(self) -> bool:
        """Whether the process that began it is gone; one of another host is thought to live."""
        owner = json.loads((self.folder / _HEAD).read_text(encoding="utf-8"))["owner"]
        return owner["host"] == socket.gethostname() and owner != _process(owner["pid"])

    @property
    def has_begun(self) -> bool:
        """Whether any node has run, or the run has failed before one could."""
        return (self.folder / _BEGUN).exists()

    def mark_begun(self) -> None:
        """Note that there is something to log: until then nothing is sent."""
        (self.folder / _BEGUN).touch()

    def add_node(self, row: dict[str, Any]) -> None:
        """Note a node that has run."""
        self.mark_begun()
        with (self.folder / _NODES).open("a", encoding="utf-8") as nodes:
            nodes.write(json.dumps(row) + "\n")

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that have run, in the order in which they ended."""
        path = self.folder / _NODES
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @property
    def is_empty(self) -> bool:
        """Whether every record was sent."""
        return not any((self.folder / _RECORDS).iterdir())

    def add(self, run: str, what: str, **content: Any) -> None:
        """Add a record of the run with the key `run`."""
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_NUMBERS):06d}.json"
        replace_text(self.folder / _RECORDS / name, json.dumps({"run": run, "what": what, **content}))

    def add_file(self, run: str, path: Path, what: str = "artifact", **content: Any) -> None:
        """Add a record of the run with the key `run` that has a copy of a file, or of a folder, as it is now."""
        kept = self.folder / _FILES / uuid.uuid4().hex / path.name
        kept.parent.mkdir(parents=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, kept)
        self.add(run, what, file=str(kept.relative_to(self.folder)), **content)

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield each record and its file, in order; those that are added meanwhile come with the next call."""
        for path in sorted((self.folder / _RECORDS).glob("*.json")):
            yield path, json.loads(path.read_text(encoding="utf-8"))

    def done(self, path: Path, record: dict[str, Any], refused: str | None = None) -> None:
        """Take a record out after it was sent, with its file; one that MLflow refused is kept aside with the reason."""
        if refused is not None:
            (self.folder / _REFUSED).mkdir(exist_ok=True)
            replace_text(self.folder / _REFUSED / path.name, json.dumps(record | {"refused": refused}))
        elif "file" in record:
            shutil.rmtree((self.folder / record["file"]).parent, ignore_errors=True)
        path.unlink()

    @property
    def sent(self) -> dict[str, dict[str, Any]]:
        """By key, of every run that was created: ``id``, ``experiment``, and ``ended``."""
        path = self.folder / _SENT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def note(self, run: str, **facts: Any) -> None:
        """Note what MLflow said of a run."""
        sent = self.sent
        sent[run] = sent.get(run, {}) | facts
        replace_text(self.folder / _SENT, json.dumps(sent))

    def last_written(self) -> float:
        """Return when something was added last, in seconds since 1970."""
        return (self.folder / _RECORDS).stat().st_mtime

    def remove(self) -> None:
        """Remove the spool, unless it keeps what MLflow has refused."""
        if not (self.folder / _REFUSED).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            (self.folder / _HEAD).rename(self.folder / "delivered.json")


def _this_process() -> dict[str, Any]:
    return _process(os.getpid()) or {}


def _process(pid: int) -> dict[str, Any] | None:
    """Return what tells a living process from others that had its number; None when there is none."""
    try:
        return {"host": socket.gethostname(), "pid": pid, "began": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return None
