"""A detector that was logged is fetched from MLflow."""

from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.tracking.destination import limit_patience
from kdad.tracking.prediction_needs import MODEL

#: By this tag a run is known before MLflow has given it an ID.
KEY_TAG = "kdad.run"


def fetch_run_detector(run: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a run, by MLflow's ID or by the run's own key, to below `target`; return its folder.

    `uri` is of the tracking server or database, None for the one that this process has chosen. Raises whatever MLflow
    does for a run that there is not, or that has no detector, and `InputError` for a run of several.
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
    if len(models) > 1:
        said = [(client.get_logged_model(one.model_id).params["system"], one.model_id) for one in models]
        named = " and ".join(f"{system} (models:/{model})" for system, model in sorted(said))
        raise InputError(f"the run '{run}' has several detectors, of {named}; give the models:/ address of one")
    if models:
        return _fetch(client, models[0].model_id, target, uri)
    # Older versions logged the detector as an artifact of the run.
    return Path(client.download_artifacts(found.info.run_id, MODEL, str(target)))


def fetch_model_detector(model: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a model by ``NAME@ALIAS``, ``NAME/VERSION`` or ID; the rest is as `fetch_run_detector`."""
    client = _client(uri)
    if "@" not in model and "/" not in model:
        return _fetch(client, model, target, uri)
    if "@" in model:
        name, alias = model.split("@")
        version = client.get_model_version_by_alias(name, alias).version
    else:
        name, version = model.split("/")
    return _download(client.get_model_version_download_uri(name, str(version)), target, uri)


def _client(uri: str | None) -> Any:
    limit_patience()
    import mlflow

    return mlflow.MlflowClient(uri)


def _fetch(client: Any, model: str, target: Path, uri: str | None) -> Path:
    # MLflow finds its own models:/ addresses in the one store that the process has chosen, whichever is given.
    return _download(client.get_logged_model(model).artifact_location, target, uri)


def _download(place: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector alone: what else is in a model is code, which is not needed here."""
    from mlflow.artifacts import download_artifacts

    inside = f"{place.rstrip('/')}/artifacts/{MODEL}"
    return Path(download_artifacts(artifact_uri=inside, dst_path=str(target), tracking_uri=uri))
