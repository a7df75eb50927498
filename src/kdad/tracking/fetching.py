"""A detector that was logged is fetched from MLflow."""

from pathlib import Path

from kdad.tracking.judging_needs import MODEL
from kdad.tracking.patience import limit_patience

#: By this tag a run is known before MLflow has given it an ID.
KEY_TAG = "kdad.run"
#: Where the detector lies in a logged model; runs of older versions have it as the artifact itself.
_IN_MODEL = f"artifacts/{MODEL}"


def fetch_run_detector(run: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a run, by MLflow's ID or by the run's own key, to below `target`; return its folder.

    `uri` is of the tracking server or database, None for the one that this process has chosen. Raises whatever MLflow
    does for a run that there is not, or that has no detector.
    """
    limit_patience()
    import mlflow

    client = mlflow.MlflowClient(uri)
    try:
        found = client.get_run(run).info.run_id
    except mlflow.MlflowException:
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.`{KEY_TAG}` = '{run}'", max_results=1)
        if not runs:
            raise
        found = runs[0].info.run_id
    fetched = Path(client.download_artifacts(found, MODEL, str(target)))
    inside = fetched / _IN_MODEL
    return inside if inside.is_dir() else fetched


def fetch_model_detector(model: str, target: Path, uri: str | None) -> Path:
    """Fetch the detector of a model, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/ID``.

    The rest is as for `fetch_run_detector`.
    """
    limit_patience()
    import mlflow

    return Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=f"{model}/{_IN_MODEL}", dst_path=str(target), tracking_uri=uri, registry_uri=uri
        )
    )
