"""A detector as a model of MLflow: a folder that MLflow loads by code, with its signature, needs and metadata."""

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from PIL import Image

import kdad
from kdad.parameters.strict import flatten
from kdad.tracking.fetching import REGISTRY
from kdad.tracking.judging_needs import CHAMPION, MODEL, MODEL_FORMAT

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # its progress is no news beside that of the run

_PACKAGE = Path(kdad.__file__).parent
_CODE = _PACKAGE / "serving" / "mlflow_model.py"
_TYPE = "anomaly detector"
_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema(
        [
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.double, "threshold"),
            ColSpec(DataType.long, "decision"),
            ColSpec(DataType.string, "map", required=False),
        ]
    ),
    params=ParamSchema([ParamSpec("map", DataType.boolean, default=False)]),
)


def log_model(
    client: MlflowClient,
    experiment: str,
    run: str,
    folder: Path,
    wanted: dict[str, Any],
    known: str | None,
    note: Callable[[str], None],
) -> str:
    """Log the detector in `folder` as a model of a run, and return the model's ID.

    `wanted` has ``requirements``, ``register`` (a name of the registry, or None) and ``champion``. `known` is the ID of
    the model that an earlier attempt has begun, which is gone on with; `note` keeps the ID as soon as there is one.
    """
    metadata = describe_model(json.loads((folder / "detector.json").read_text(encoding="utf-8")))
    facts = {name: str(value) for name, value in flatten(metadata).items() if not name.startswith("metrics.")}
    if known is None:
        known = client.create_logged_model(experiment, MODEL, run, params=facts, model_type=_TYPE).model_id
        note(known)
    model = client.get_logged_model(known)
    if model.status != "READY":
        with _built(folder, metadata, wanted["requirements"], model, run) as built:
            client.log_model_artifacts(known, str(built))
        client.log_outputs(run, [LoggedModelOutput(known, step=0)])
        _log_metrics(client, run, known)
        client.finalize_logged_model(known, "READY")
    if wanted["register"]:
        _register(client, wanted["register"], known, run, wanted["champion"])
    return known


def describe_model(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a model says of itself, from what ``detector.json`` holds."""
    threshold, made = facts["threshold"] or {}, facts["made_by"]
    return {
        "model_format": MODEL_FORMAT,
        "kdad": facts["package"],
        "system": facts["system"],
        "image_size": facts["image"]["size"],
        "threshold": threshold.get("value"),
        "threshold_rule": threshold.get("rule"),
        "promised_false_positive_rate": threshold.get("expected_false_positive_rate"),
        "false_positive_rate_bound": threshold.get("false_positive_rate_bound"),
        "dataset": made.get("dataset"),
        "category": made.get("category"),
        "dataset_digest": made.get("images"),
        "seed": made.get("seed"),
        "commit": made.get("commit") or "unknown",
        "made": made.get("made"),
        "metrics": {name: value for name, value in made.get("metrics", {}).items() if _is_number(value)},
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def _built(folder: Path, metadata: dict[str, Any], requirements: list[str], model: Any, run: str) -> Iterator[Path]:
    """Give the model's folder: the detector, the package's code, and MLflow's files."""
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        code = shutil.copytree(_PACKAGE, place / "code" / "kdad", ignore=shutil.ignore_patterns("__pycache__"))
        archive = shutil.make_archive(str(place / "kdad"), "zip", code.parent)
        mlflow.pyfunc.save_model(
            path=str(place / "model"),
            python_model=str(_CODE),
            artifacts={"detector": str(folder), "code": archive},
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=run,
                model_uuid=model.model_id,
                model_id=model.model_id,
                metadata=metadata,
            ),
            signature=_SIGNATURE,
            input_example=pd.DataFrame({"image": [_grey_png(*metadata["image_size"])]}),
            pip_requirements=requirements,
        )
        yield place / "model"


def _grey_png(height: int, width: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(content, "PNG")
    return content.getvalue()


def _log_metrics(client: MlflowClient, run: str, model: str) -> None:
    """Link the run's results with the model: the same values at the same times, so that the run has none twice."""
    found = client.get_run(run).data._metric_objs
    chosen = [one for one in found if "." not in one.key and np.isfinite(one.value)]
    linked = [Metric(one.key, one.value, one.timestamp, one.step, model_id=model, run_id=run) for one in chosen]
    client.log_batch(run, metrics=linked)


def _register(client: MlflowClient, name: str, model: str, run: str, champion: bool) -> None:
    """Make a version of the registered model, once; let ``champion`` name it when that is asked for."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{REGISTRY}{model}"
    made = [one for one in client.search_model_versions(f"name = '{name}'") if one.source == source]
    version = made[0] if made else client.create_model_version(name, source, run, model_id=model)
    if champion:
        client.set_registered_model_alias(name, CHAMPION, version.version)
