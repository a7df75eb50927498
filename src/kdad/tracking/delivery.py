"""What a spool holds is sent to MLflow: the only module that writes there."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from kdad.tracking.destination import Destination, unreachable
from kdad.tracking.fetching import KEY_TAG
from kdad.tracking.spool import EXPERIMENT_ID, RUN_ID, Spool

logger = logging.getLogger(__name__)

_BATCH = 1000  # metrics a request, MLflow's limit
_PARAMETERS = 100
#: What will never be taken, however often it is sent; unless nothing else is taken either: a proxy says 404 too.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
#: So a server answers for its database: two clients were first with one data set, or it cannot be written to now.
_DOUBTFUL = "BAD_REQUEST"
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds, until what is doubtful is a refusal
_WRITTEN_TAG = "kdad.written"


@dataclass
class Delivery:
    """Sends the records of spools to one destination; raises `OSError` or what MLflow raises without an answer."""

    destination: Destination
    _client: MlflowClient | None = None
    _experiment: str | None = None
    _doubtful: bool = True
    _actions: dict[str, Callable[..., None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._actions = {
            "metrics": self._metrics,
            "parameters": self._parameters,
            "tags": self._tags,
            "artifact": self._artifact,
            "inputs": self._inputs,
            "text": self._text,
        }

    def deliver(self, spool: Spool, delivered: Callable[[], None] = lambda: None) -> None:
        """Send every record in order, and take out what was sent; one that MLflow refuses is kept aside, and said."""
        with FileLock(spool.folder / "delivering.lock"):
            if self._doubtful and not spool.is_empty:
                self._ask()
            self._doubtful = True
            for path, record in spool.records():
                refused = self._settle(spool, record)
                if refused is not None:
                    logger.warning("MLflow refused %s: %s", record["what"], refused)
                spool.done(path, record, refused)
                delivered()
            self._doubtful = False

    def _ask(self) -> None:
        """Raise `ConnectionError` when there is no answer: MLflow itself would go on asking for minutes."""
        reason = unreachable(self.destination)
        if reason is not None:
            raise ConnectionError(reason)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; a local database is made, or migrated, by one process at a time."""
        if self._client is None:
            if self.destination.is_local:
                self.destination.database.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{self.destination.database}.lock"):
                    self._client = MlflowClient(self.destination.uri)
                    self._client.search_experiments(max_results=1)
            else:
                self._client = MlflowClient(self.destination.uri)
        return self._client

    @property
    def experiment(self) -> str:
        """The experiment's ID; it is made, or restored, when it is not there."""
        if self._experiment is None:
            name, artifacts = self.destination.experiment, self.destination.artifacts
            found = self.client.get_experiment_by_name(name)
            if found is not None and artifacts and _path_of(found.artifact_location) != _path_of(artifacts):
                # The project was moved: its old place is no longer written to.
                other = f"{name} in {_path_of(artifacts).parent.name}"
                logger.warning(
                    "the experiment '%s' keeps its files in %s; this project logs to the experiment '%s'",
                    *(name, found.artifact_location, other),
                )
                name, found = other, self.client.get_experiment_by_name(other)
            if found is None:
                self._experiment = self._make_experiment(name, artifacts)
            else:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                self._experiment = found.experiment_id
        return self._experiment

    def _make_experiment(self, name: str, artifacts: str | None) -> str:
        try:
            return self.client.create_experiment(name, artifacts)
        except MlflowException:
            found = self.client.get_experiment_by_name(name)  # another process was first
            if found is None:
                raise
            return found.experiment_id

    def _settle(self, spool: Spool, record: dict[str, Any]) -> str | None:
        """Send a record; return why it will never be taken, or None; raise when nothing else is taken either."""
        for pause in (*_PAUSES, None):
            try:
                self._send(spool, record)
                return None
            except MlflowException as error:
                if error.error_code not in (*_REFUSALS, _DOUBTFUL) or not self._takes_others():
                    raise
                if pause is None or error.error_code in _REFUSALS:
                    return str(error).splitlines()[0]
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _takes_others(self) -> bool:
        """Whether anything is written there now: the time of this, as a tag of the experiment."""
        try:
            self.client.set_experiment_tag(self.experiment, _WRITTEN_TAG, str(int(time.time())))
        except Exception:  # whatever it is, the record before it was not at fault
            return False
        return True

    def _send(self, spool: Spool, record: dict[str, Any]) -> None:
        key, what = record["run"], record["what"]
        if what == "create":
            self._create(spool, key, record)
            return
        run = spool.sent[key]["id"]
        if what == "end":
            if spool.sent[key].get("tried", 1) > 1:
                self._remove_doubles(spool, key)
            self.client.set_terminated(run, record["status"], record["time"])
            spool.note(key, ended=record["status"])
        elif what == "artifact":
            self._artifact(run, {**record, "file": spool.folder / record["file"]})
        elif what == "model":
            self._model(spool, run, record)
        else:
            self._actions[what](run, record)

    def _create(self, spool: Spool, key: str, record: dict[str, Any]) -> None:
        known = spool.sent.get(key, {})
        if "id" in known:
            return
        experiment, tried = self.experiment, int(known.get("tried", 0))
        if tried:
            for found in self._runs_of(experiment, key):
                spool.note(key, id=found.info.run_id, experiment=experiment)
                return
        spool.note(key, tried=tried + 1)
        tags = {**record["tags"], KEY_TAG: key}
        if record["parent"] is not None:
            tags["mlflow.parentRunId"] = spool.sent.get(record["parent"], {}).get("id", record["parent"])
        run = self.client.create_run(experiment, record["time"], tags, record["name"])
        spool.note(key, id=run.info.run_id, experiment=experiment)

    def _runs_of(self, experiment: str, key: str) -> list[Run]:
        return self.client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'")

    def _remove_doubles(self, spool: Spool, key: str) -> None:
        """Remove runs of the same key: what was not answered in time may be done after it was asked for again."""
        known = spool.sent[key]
        for found in self._runs_of(known["experiment"], key):
            if found.info.run_id != known["id"]:
                self.client.delete_run(found.info.run_id)

    def _metrics(self, run: str, record: dict[str, Any]) -> None:
        metrics = [Metric(*one) for one in record["metrics"]]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + _BATCH])

    def _parameters(self, run: str, record: dict[str, Any]) -> None:
        parameters = [Param(name, value) for name, value in record["parameters"].items()]
        for start in range(0, len(parameters), _PARAMETERS):
            self.client.log_batch(run, params=parameters[start : start + _PARAMETERS])

    def _tags(self, run: str, record: dict[str, Any]) -> None:
        known = {RUN_ID: run, EXPERIMENT_ID: self.experiment}
        tags = []
        for name, value in record["tags"].items():
            for word, found in known.items():
                value = value.replace(word, found)
            tags.append(RunTag(name, value))
        self.client.log_batch(run, tags=tags)

    def _artifact(self, run: str, record: dict[str, Any]) -> None:
        path = Path(record["file"])
        if not path.exists():
            logger.warning("%s, which was to be logged, is gone", path.name)
        elif path.is_dir():
            self.client.log_artifacts(run, str(path), record["folder"])
        else:
            self.client.log_artifact(run, str(path), record["folder"])

    def _model(self, spool: Spool, run: str, record: dict[str, Any]) -> None:
        from kdad.tracking.logged_model import ModelLog  # late: few records are models

        folder, begun = spool.folder / record["file"], f"model {record['file']}"
        if not folder.exists():
            logger.warning("the detector, which was to be logged as a model, is gone")
            return

        def note(model: str) -> None:
            spool.note(record["run"], **{begun: model})

        known = spool.sent[record["run"]].get(begun)
        ModelLog(self.client, self.experiment, self.destination.is_local).log(run, folder, record, known, note)

    def _text(self, run: str, record: dict[str, Any]) -> None:
        self.client.log_text(run, record["text"], record["name"])

    def _inputs(self, run: str, record: dict[str, Any]) -> None:
        found = [
            DatasetInput(Dataset(**one["dataset"]), [InputTag("mlflow.data.context", one["context"])])
            for one in record["inputs"]
        ]
        self.client.log_inputs(run, found)


def _path_of(location: str) -> Path:
    return Path(location.removeprefix("file://")).resolve()


def close_left_runs(waiting: Path, delivery: Delivery) -> int:
    """Send what dead processes have left in `waiting`, close as KILLED the runs that they left open; count the spools.

    Spools of another destination stay.
    """
    settled = 0
    for spool in Spool.find(waiting):
        if spool.destination != delivery.destination.plain() or not spool.is_orphan:
            continue
        try:
            with FileLock(spool.folder / "closing.lock", timeout=0):
                if spool.has_begun:
                    end_open_runs(spool)
                    delivery.deliver(spool)
                spool.remove()
        except (Timeout, FileNotFoundError):
            continue  # another process is at it
        settled += 1
        logger.info("what an earlier run had left for MLflow was sent")
    return settled


def end_open_runs(spool: Spool) -> None:
    """Add an end, KILLED at the time of their last record, to runs that have none."""
    last = int(spool.last_written() * 1000)
    begun = {key: None for key, facts in spool.sent.items() if "ended" not in facts}
    ended = set()
    for _, record in spool.records():
        if record["what"] == "create":
            begun[record["run"]] = None
        elif record["what"] == "end":
            ended.add(record["run"])
    for key in reversed([key for key in begun if key not in ended]):
        spool.add(key, "end", status="KILLED", time=last)
