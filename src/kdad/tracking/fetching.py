"""A detector that was logged is fetched from MLflow."""

from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.tracking.judging_needs import MODEL
from kdad.tracking.patience import limit_patience

#: By this tag a run is known before MLflow has given it an ID.
KEY_TAG = "kdad.run"
#: What addresses of models begin with; a version of the registry that kdad has made is of the model with such an ID.
REGISTRY = "models:/"


def fetch_run_detector(run: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a run, by MLflow's ID or by the run's own key, to below `target`; return its folder.

    `uri` is of the tracking server or database, None for the one that this process has chosen. Raises whatever MLflow
    does for a run that there is not, or that has no detector.
    """
    client = _client(uri)
    from mlflow import MlflowException

    try:
        found = client.get_run(run)
    except MlflowException:
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.`{KEY_TAG}` = '{run}'", max_results=1)
        if not runs:
            raise
        found = client.get_run(runs[0].info.run_id)
    models = found.outputs.model_outputs if found.outputs else []
    if models:
        return _fetch(client, models[-1].model_id, target, uri)
    # Older versions logged the detector as an artifact of the run.
    return Path(client.download_artifacts(found.info.run_id, MODEL, str(target)))


def fetch_model_detector(model: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a model by ``NAME@ALIAS``, ``NAME/VERSION`` or ID; the rest is as `fetch_run_detector`."""
    client = _client(uri)
    if "@" in model:
        source = client.get_model_version_by_alias(*model.split("@")).source
    elif "/" in model:
        source = client.get_model_version(*model.split("/")).source
    else:
        source = f"{REGISTRY}{model}"
    if not source.startswith(REGISTRY):
        raise InputError(f"it is a version of '{source}', which no run of kdad has logged")
    return _fetch(client, source.removeprefix(REGISTRY), target, uri)


def _client(uri: str | None) -> Any:
    limit_patience()
    import mlflow

    return mlflow.MlflowClient(uri)


def _fetch(client: Any, model: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector alone: what else is in a model is code, which is not needed here."""
    from mlflow.artifacts import download_artifacts

    # MLflow finds its own models:/ addresses in the one store that the process has chosen, whichever is given.
    place = f"{client.get_logged_model(model).artifact_location.rstrip('/')}/artifacts/{MODEL}"
    return Path(download_artifacts(artifact_uri=place, dst_path=str(target), tracking_uri=uri))
