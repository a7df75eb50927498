"""Links that open the right view of MLflow: its own links open an experiment where no run of this kind is seen."""

from urllib.parse import quote

from kdad.tracking.destination import Destination

#: The view of runs; without it MLflow opens traces of language models.
_VIEW = "workflowType=machine_learning"


def run_link(place: str, experiment: str, run: str) -> str:
    """Return the link of a run's own page; `place` is where the UI is, empty for a link inside it."""
    return f"{place}#/experiments/{experiment}/runs/{run}?{_VIEW}"


def experiment_link(place: str, experiment: str) -> str:
    """Return the link of an experiment's table of runs."""
    return f"{place}#/experiments/{experiment}/runs?{_VIEW}"


def axis_link(place: str, experiment: str, run: str, axis: str) -> str:
    """Return the link of the cases of an ablation's axis alone, the best first.

    Sorted by a metric, MLflow shows children flat, without their parent: "select all" takes what is to be compared.
    """
    chosen = quote(f"tags.axis = '{axis}' and tags.mlflow.parentRunId = '{run}'", safe="")
    order = quote("metrics.`image_auroc`", safe="")
    return f"{experiment_link(place, experiment)}&searchFilter={chosen}&orderByKey={order}&orderByAsc=false"


def place_of_ui(destination: Destination, ui: dict[str, str]) -> str:
    """Return where the UI of a destination is: the server itself, or what ``make mlflow`` opens for a database."""
    if destination.uri.startswith(("http://", "https://")):
        return destination.uri.rstrip("/") + "/"
    return f"http://{ui.get('host', '127.0.0.1')}:{ui.get('port', '5000')}/"
