"""The record of a run is written to MLflow: the only module that writes there."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from kdad.errors import first_line
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, Destination, unreachable
from kdad.tracking.fetching import KEY_TAG
from kdad.tracking.run import TrackedRun, remove

logger = logging.getLogger(__name__)
# It logs a traceback of each database that is locked, and raises it too; what it raises is said once.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

#: How many of a kind go in one request; MLflow takes 1000 metrics, and 100 of the others.
_BATCHES = {"params": 100, "tags": 100, "inputs": 100, "metrics": 1000}
#: What will never be taken, however often it is sent; unless nothing else is taken either: a proxy says 404 too.
_GONE = "RESOURCE_DOES_NOT_EXIST"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", _GONE)
#: So a server answers for its database: two clients were first with one data set, or it cannot be written to now.
_DOUBTFUL = "BAD_REQUEST"
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds, until what is doubtful is a refusal
_LOCK_SECONDS = 5.0  # for another that is told to stop to end what it is at
_WRITTEN_TAG = "kdad.written"


@dataclass
class MlflowWriter:
    """Brings MLflow to what folders of runs say; raises `OSError` or what MLflow raises without an answer.

    What is in MLflow already is not written again, and to write it twice would change nothing: so a writer may be
    killed, or lose an answer, at any moment. `progress` is called whenever something was taken.
    """

    destination: Destination
    progress: Callable[[], None] = lambda: None
    _doubtful: bool = True

    def write(self, run: TrackedRun) -> None:
        """Write what was added to a run and its children; what MLflow refuses is kept aside, and said."""
        with FileLock(run.path / "writing.lock", timeout=_LOCK_SECONDS):
            if self._doubtful:  # MLflow itself would go on asking for minutes
                reason = unreachable(self.destination)
                if reason is not None:
                    raise ConnectionError(reason)
            self._doubtful = True
            self._write(run, run.head["parent"])
            self._doubtful = False

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; a local database is made, or migrated, by one process at a time."""
        if not self.destination.is_local:
            return MlflowClient(self.destination.uri)
        self.destination.database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.destination.database}.lock"):
            client = MlflowClient(self.destination.uri)
            client.search_experiments(max_results=1)
        return client

    @cached_property
    def experiment(self) -> str:
        """The experiment's ID; it is made, or restored, when it is not there."""
        name, artifacts = self.destination.experiment, self.destination.artifacts
        known = self.client.get_experiment_by_name(name)
        if known is not None and artifacts and _path_of(known.artifact_location) != _path_of(artifacts):
            # The project was moved: its old place is no longer written to.
            other = f"{name} in {_path_of(artifacts).parent.name}"
            logger.warning(
                "the experiment '%s' keeps its files in %s; this project logs to the experiment '%s'",
                *(name, known.artifact_location, other),
            )
            name, known = other, self.client.get_experiment_by_name(other)
        if known is None:
            try:
                return self.client.create_experiment(name, artifacts)
            except MlflowException:
                known = self.client.get_experiment_by_name(name)  # another process was first
                if known is None:
                    raise
        if known.lifecycle_stage == "deleted":
            self.client.restore_experiment(known.experiment_id)
        return known.experiment_id

    def _write(self, run: TrackedRun, parent: str | None) -> None:
        status = run.status  # before the rest, which is complete once the run has ended
        models, _ = run.lines("models")  # before the metrics, which are linked with them
        sent = self._created(run, parent)
        identity = sent["id"]
        for kind, most in _BATCHES.items():
            lines, end = run.lines(kind, sent.get(kind, 0))
            for start in range(0, len(lines), most):
                self._settle(run, kind, lines[start : start + most], partial(self._log, identity, kind))
            if lines:
                sent = run.note(**{kind: end})
        for path in _to_send(run):
            self._settle(run, "artifacts", [path], lambda paths: self._log_file(run, identity, paths[0]))
            remove(path)
        for model in models:
            folder = run.path / model["folder"]
            if folder.exists():
                self._settle(run, "models", [folder], partial(self._log_model, identity, model))
                remove(folder.parent)
        for child in run.children:
            self._write(child, identity)
            if "status" in child.sent:
                child.remove()
        if status is not None and "status" not in run.sent:
            if sent["tried"] > 1:
                self._remove_doubles(run)
            self.client.set_terminated(identity, status["status"], status["time"])
            run.note(status=status["status"])
            self.progress()

    def _created(self, run: TrackedRun, parent: str | None) -> dict[str, Any]:
        sent = run.sent
        if "id" in sent:
            return sent
        tried = sent.get("tried", 0)
        known = self._runs_of(self.experiment, run.key) if tried else []
        if known:
            identity = known[0].info.run_id
        else:
            run.note(tried=tried + 1)
            head = run.head
            tags = {**head["tags"], KEY_TAG: run.key} | ({"mlflow.parentRunId": parent} if parent else {})
            identity = self.client.create_run(self.experiment, head["time"], tags, head["name"]).info.run_id
        self.progress()
        return run.note(id=identity, experiment=self.experiment)

    def _runs_of(self, experiment: str, key: str) -> list[Run]:
        return self.client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'")

    def _remove_doubles(self, run: TrackedRun) -> None:
        """Remove runs of the same key: what was not answered in time may be done after it was asked for again."""
        for double in self._runs_of(run.sent["experiment"], run.key):
            if double.info.run_id != run.sent["id"]:
                self.client.delete_run(double.info.run_id)

    def _settle(self, run: TrackedRun, kind: str, items: list[Any], send: Callable[[list[Any]], Any]) -> None:
        """Send items; keep aside those that will never be taken; raise when nothing else is taken either."""
        refusal = self._refusal(items, send, _PAUSES)
        if refusal is None or len(items) == 1 or refusal.error_code == _GONE:
            refusals = [(items, refusal)]
        else:
            refusals = [([item], self._refusal([item], send, ())) for item in items]
        for refused, error in refusals:
            if error is not None:
                logger.warning("MLflow refused %s: %s", kind, first_line(error))
                run.keep_refused(kind, refused, first_line(error))
        self.progress()

    def _refusal(
        self, items: list[Any], send: Callable[[list[Any]], Any], pauses: tuple[float, ...]
    ) -> MlflowException | None:
        """Send items; return why they will never be taken, None when they were."""
        for pause in (*pauses, None):
            try:
                send(items)
                return None
            except MlflowException as error:
                if error.error_code not in (*_REFUSALS, _DOUBTFUL) or not self._takes_others():
                    raise
                if pause is None or error.error_code in _REFUSALS:
                    return error
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _takes_others(self) -> bool:
        """Whether anything is written there now: the time of this, as a tag of the experiment."""
        try:
            self.client.set_experiment_tag(self.experiment, _WRITTEN_TAG, str(int(time.time())))
        except Exception:  # whatever it is, the record before it was not at fault
            return False
        return True

    def _log(self, run: str, kind: str, items: list[Any]) -> None:
        if kind == "params":
            self.client.log_batch(run, params=[Param(*item) for item in items])
        elif kind == "metrics":
            self.client.log_batch(run, metrics=[Metric(*item) for item in items])
        elif kind == "tags":
            known = {RUN_ID: run, EXPERIMENT_ID: self.experiment}
            self.client.log_batch(run, tags=[RunTag(name, _filled(text, known)) for name, text in items])
        else:
            context = "mlflow.data.context"
            inputs = [DatasetInput(Dataset(**one["dataset"]), [InputTag(context, one["context"])]) for one in items]
            self.client.log_inputs(run, inputs)

    def _log_file(self, run: TrackedRun, identity: str, path: Path) -> None:
        folder = path.relative_to(run.path / "sending").parent.as_posix()
        self.client.log_artifact(identity, str(path), None if folder == "." else folder)

    def _log_model(self, run: str, model: dict[str, Any], folders: list[Path]) -> None:
        from kdad.tracking.logged_model import ModelLog  # late: few runs have a model

        ModelLog(self.client, self.experiment, self.destination.is_local).log(run, folders[0], model)


def _to_send(run: TrackedRun) -> list[Path]:
    """Return the files that are to be logged, which are set apart: others of their names may come meanwhile."""
    placed, sending = run.path / "artifacts", run.path / "sending"
    for path in filter(Path.is_file, list(placed.rglob("*"))):
        target = sending / path.relative_to(placed)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    return sorted(filter(Path.is_file, sending.rglob("*")))


def _filled(text: str, known: dict[str, str]) -> str:
    for word, value in known.items():
        text = text.replace(word, value)
    return text


def _path_of(location: str) -> Path:
    return Path(location.removeprefix("file://")).resolve()
