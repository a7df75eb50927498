"""A detector as a model of MLflow: a folder that MLflow loads by code, with its signature, needs and metadata."""

import base64
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from PIL import Image

import kdad
from kdad.reporting.overlays import encode_picture
from kdad.tracking.fetching import CHAMPION, MODEL, MODEL_FORMAT

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # its progress is no news beside that of the run

_PACKAGE = Path(kdad.__file__).parent
_CODE = _PACKAGE / "serving" / "mlflow_model.py"
_TYPE = "anomaly detector"
_KEY_TAG = "kdad.file"  # by it a model is known before MLflow has said its ID
_SIGNATURE = ModelSignature(
    # Bytes, base64 text or an array: of a column of bytes, MLflow would make nonsense of text in `inputs`.
    inputs=Schema([ColSpec(AnyType(), "image")]),
    outputs=Schema(
        [
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.double, "threshold"),
            ColSpec(DataType.long, "decision"),
            ColSpec(DataType.string, "map", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("map", DataType.boolean, default=False),
            ParamSpec("category", DataType.string, default=None),
            ParamSpec("group", DataType.boolean, default=False),
        ]
    ),
)


@dataclass(frozen=True)
class ModelLog:
    """Logs detectors as models of runs of one experiment; `is_local` tells a database of this machine from a server."""

    client: MlflowClient
    experiment: str
    is_local: bool

    def log(self, run: str, folder: Path, wanted: dict[str, Any]) -> None:
        """Log the detector in `folder` as a model of a run, or go on with what an earlier attempt has begun.

        `wanted` has ``requirements``, ``register`` (a name of the registry, or None), ``champion``, and ``folder``,
        which no other model of the run has.
        """
        metadata = describe_model(json.loads((folder / "detector.json").read_text(encoding="utf-8")))
        made_before = f"source_run_id = '{run}' AND tags.`{_KEY_TAG}` = '{wanted['folder']}'"  # was it answered or not
        known = self.client.search_logged_models([self.experiment], made_before, max_results=1)
        if known:
            model = known[0]
        else:
            facts = {name: str(value) for name, value in metadata.items() if name != "metrics"}
            tags = {_KEY_TAG: wanted["folder"]}
            model = self.client.create_logged_model(
                self.experiment, MODEL, run, tags=tags, params=facts, model_type=_TYPE
            )
        if model.status != "READY":
            with _built(folder, metadata, wanted["requirements"], model, run) as built:
                self.client.log_model_artifacts(model.model_id, str(built))
            outputs = self.client.get_run(run).outputs
            if model.model_id not in [one.model_id for one in (outputs.model_outputs if outputs else [])]:
                self.client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
            self._link_metrics(run, model.model_id)
            self.client.finalize_logged_model(model.model_id, "READY")
        if wanted["register"]:
            self._register(wanted["register"], model, run, wanted["champion"])

    def _link_metrics(self, run: str, model: str) -> None:
        """Link the run's results with the model: the same values at the same times, so that the run has none twice."""
        found = self.client.get_run(run).data._metric_objs
        chosen = [one for one in found if "." not in one.key and np.isfinite(one.value)]
        linked = [Metric(one.key, one.value, one.timestamp, one.step, model_id=model, run_id=run) for one in chosen]
        self.client.log_batch(run, metrics=linked)

    def _register(self, name: str, model: LoggedModel, run: str, champion: bool) -> None:
        """Make a version of the registered model, once; let ``champion`` name it when that is asked for."""
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # By its ID MLflow would look for it in the store that the process has chosen, which may be another.
        source = model.artifact_location if self.is_local else f"models:/{model.model_id}"
        made = [one for one in self.client.search_model_versions(f"name = '{name}'") if one.source == source]
        version = made[0] if made else self.client.create_model_version(name, source, run, model_id=model.model_id)
        shown = json.dumps([{"name": name, "version": version.version}])
        self.client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: shown})  # for the model's own page
        if champion:
            self.client.set_registered_model_alias(name, CHAMPION, version.version)


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
        "metrics": {name: value for name, value in made.get("metrics", {}).items() if type(value) in (int, float)},
    }


@contextmanager
def _built(
    folder: Path, metadata: dict[str, Any], requirements: list[str], model: LoggedModel, run: str
) -> Iterator[Path]:
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


def _grey_png(height: int, width: int) -> str:
    content = encode_picture(Image.fromarray(np.full((height, width, 3), 128, np.uint8)))
    return base64.b64encode(content).decode("ascii")  # text, as a request has it
