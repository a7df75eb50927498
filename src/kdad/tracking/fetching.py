"""What a run has logged is fetched from MLflow."""

from pathlib import Path

from kdad.tracking.patience import limit_patience

#: By this tag a run is known before MLflow has given it an ID.
KEY_TAG = "kdad.run"


def fetch_artifact(run: str, name: str, target: Path, uri: str | None) -> None:
    """Fetch an artifact of a run, by MLflow's ID or by the run's own key, into the folder `target`.

    `uri` is of the tracking server or database, None for the one that this process has chosen. Raises whatever MLflow
    does for a run or an artifact that there is not.
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
    client.download_artifacts(found, name, str(target))
