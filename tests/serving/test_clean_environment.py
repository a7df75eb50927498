"""A logged model loads and predicts where nothing is installed but what it asks for."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from kdad import detectors
from kdad.tracking.fetching import requirements_of
from kdad.tracking.logged_model import ModelLog
from projects import PROJECT

pytestmark = pytest.mark.long

_CODE = """
import importlib.util, json, sys
import mlflow, pandas
assert importlib.util.find_spec("kdad") is None
model = mlflow.pyfunc.load_model(sys.argv[1])
import kdad
assert ".zip" in kdad.__file__, kdad.__file__
found = model.predict(pandas.DataFrame({"image": sys.argv[2:]}))
print(json.dumps(found.to_dict("list")))
"""


def test_a_model_loads_where_only_its_requirements_are(tmp_path, detector_folder, migrated_database):
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("trial", (tmp_path / "mlruns").as_uri())
    run = client.create_run(experiment).info.run_id
    needs = requirements_of("mkd", PROJECT / "requirements.lock")
    wanted = {"requirements": needs, "register": None, "champion": False, "folder": "detector"}
    ModelLog(client, experiment, True).log(run, detector_folder, wanted)
    (logged,) = client.search_logged_models([experiment])
    place = logged.artifact_location.removeprefix("file://")

    generator, paths = np.random.default_rng(0), []
    for name in ("a", "b"):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), np.uint8)).save(paths[-1])
    python = tmp_path / "environment/bin/python"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True, env=bare)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", f"{place}/requirements.txt"], check=True, env=bare)
    answer = subprocess.run(
        [python, "-c", _CODE, place, *paths], check=True, env=bare, cwd=tmp_path, capture_output=True, text=True
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    here = detectors.load(detector_folder)
    assert found["score"] == pytest.approx([here.predict(path).score for path in paths], rel=1e-6)
    assert found["threshold"] == [here.threshold.value] * 2
