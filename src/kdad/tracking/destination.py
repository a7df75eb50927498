"""Which MLflow a run goes to, from ``mlflow.yml`` or MLflow's environment variables; how it behaves here, and links."""

import os
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

_SQLITE = "sqlite:///"
_SECONDS = 3.0  # to answer that it is there


@dataclass(frozen=True)
class Destination:
    """A tracking server or database, the experiment, and where a local database's artifacts lie."""

    uri: str
    experiment: str
    artifacts: str | None
    said: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether it is a database of this machine, whose artifacts are files beside it."""
        return self.uri.startswith(_SQLITE)

    @property
    def database(self) -> Path:
        """The file of a local database."""
        return Path(self.uri.removeprefix(_SQLITE))

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {name: value for name, value in asdict(self).items() if name != "said"}


def destination_of(configuration: Mapping[str, Any], environment: Mapping[str, str], default: str) -> Destination:
    """Read ``mlflow.yml``; MLflow's variables of the environment go first, and that is said.

    An experiment without a name has the name `default`. A server keeps artifacts where it is told to, so that a place
    of this machine is given to local databases alone.
    """
    experiment = configuration.get("tracking", {}).get("experiment", {})
    uri = configuration.get("server", {}).get("mlflow_tracking_uri") or ""
    name = experiment.get("name") or default
    said = []
    given = environment.get("MLFLOW_TRACKING_URI")
    if given and given != uri:
        uri, said = given, [f"runs are logged to {given}, as MLFLOW_TRACKING_URI says, not to {uri or 'mlflow.yml'}"]
    given = environment.get("MLFLOW_EXPERIMENT_NAME")
    if given and given != name:
        said.append(f"the experiment is '{given}', as MLFLOW_EXPERIMENT_NAME says, not '{name}'")
        name = given
    artifacts = (experiment.get("create_experiment_kwargs") or {}).get("artifact_location")
    local = uri.startswith(_SQLITE)
    return Destination(uri, name, artifacts if local else None, tuple(said))


def unreachable(destination: Destination) -> str | None:
    """Return why a run cannot be logged there now, None when it can; takes a few seconds at most."""
    try:
        if destination.is_local:
            if destination.database.exists():
                with sqlite3.connect(destination.database, timeout=_SECONDS) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.rollback()
        elif destination.uri.startswith(("http://", "https://")):
            urllib.request.urlopen(f"{destination.uri.rstrip('/')}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}" if error.code >= 500 else None
    except (OSError, sqlite3.Error) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        # It is there; which certificates are good is MLflow's matter, which has settings of its own.
        return None if isinstance(reason, ssl.SSLError) else str(reason)
    return None


_SETTINGS = {
    "HTTP_REQUEST_MAX_RETRIES": "0",  # a request is repeated by who can tell whether it was done before
    "HTTP_REQUEST_TIMEOUT": "60",  # of a server at work on a large file; no run's end waits for it
    "DISABLE_TELEMETRY": "true",
    "ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def limit_patience() -> None:
    """Have a server that is down told of within seconds, where MLflow by itself tries for four minutes.

    Nor does MLflow report its use to its makers, draw bars, or print the addresses of each run. What the environment
    says already stays; to be called before MLflow is imported.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)


#: In a tag: MLflow's ID of the run, known when the tag is sent; as it is in a link too.
RUN_ID = "__run_id__"
#: The same of its experiment.
EXPERIMENT_ID = "__experiment_id__"
#: The view of runs; without it MLflow opens traces of language models.
_VIEW = "workflowType=machine_learning"


def run_link(place: str, experiment: str, run: str) -> str:
    """Return the link of a run's own page; `place` is where the UI is, empty for a link inside it."""
    return f"{place}#/experiments/{experiment}/runs/{run}?{_VIEW}"


def axis_link(place: str, experiment: str, run: str, axis: str) -> str:
    """Return the link of the cases of an ablation's axis alone, the best first.

    Sorted by a metric, MLflow shows children flat, without their parent: "select all" takes what is to be compared.
    """
    chosen = quote(f"tags.axis = '{axis}' and tags.mlflow.parentRunId = '{run}'", safe="")
    order = quote("metrics.`image_auroc`", safe="")
    runs = f"{place}#/experiments/{experiment}/runs?{_VIEW}"
    return f"{runs}&searchFilter={chosen}&orderByKey={order}&orderByAsc=false"


def place_of_ui(destination: Destination, ui: dict[str, str]) -> str:
    """Return where the UI of a destination is: the server itself, or what ``make mlflow`` opens for a database."""
    if destination.uri.startswith(("http://", "https://")):
        return destination.uri.rstrip("/") + "/"
    return f"http://{ui.get('host', '127.0.0.1')}:{ui.get('port', '5000')}/"
