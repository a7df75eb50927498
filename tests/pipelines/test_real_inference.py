"""A detector with the real VGG-16 on a real category, kept, moved, and asked again by another process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kept_detectors import read_predictions
from projects import copy_project

pytestmark = [pytest.mark.real_data, pytest.mark.long]


def _kedro(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run ``kedro run`` in a process of its own; fails with what it says."""
    command = [sys.executable, "-m", "kedro", "run", *arguments]
    environment = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_another_process_says_the_same_of_every_test_image(tmp_path, migrated_database, shared):
    project = copy_project(tmp_path / "project", migrated_database)
    weights = tmp_path / "vgg16.safetensors"
    shutil.copy(shared / "weights/vgg16_imagenet_conv.safetensors", weights)
    settings = {
        "dataset.root": shared / "data/mvtec_ad_256",
        "dataset.image_size": 128,
        "source.name": "vgg16",
        "source.weights": weights,
        "cloner.training.epochs": 3,
        "compute.threads": 1,
    }
    _kedro(project, "--env=mvtec", "--params", ",".join(f"{name}={value}" for name, value in settings.items()))
    own = pd.read_csv(project / "data/08_reporting/folder/bottle/mkd/scores.csv").query("split == 'test'")
    own = own.assign(id=own["id"].str.removeprefix("test/")).set_index("id")

    # The detector alone has to do: neither the file of the weights nor what the project has stored is there.
    moved = tmp_path / "elsewhere/my detector"
    shutil.copytree(project / "data/06_models/folder/bottle/mkd/detector", moved)
    weights.unlink()
    for place in ("04_feature", "06_models", "07_model_output"):
        shutil.rmtree(project / "data" / place)
    wanted = f"inference.images={shared / 'data/mvtec_ad_256/bottle/test'},inference.detector={moved}"
    done = _kedro(project, "--pipeline=inference", "--params", f"{wanted},inference.heat_maps=false,compute.threads=1")

    judged = read_predictions(project / "data/08_reporting/inference/test")
    assert len(judged) == 83
    assert sorted(judged.index) == sorted(own.index)
    own = own.loc[judged.index]
    np.testing.assert_allclose(judged["score"], own["score"], rtol=1e-5)
    assert judged["decision"].tolist() == own["decision"].tolist()
    assert judged["label"].tolist() == own["label"].tolist()
    said = " ".join(done.stdout.split())
    assert "20 normal (in 'good'), 63 anomalous (in folders beside it" in said
    assert "83 of 256 x 256 (height x width); 83 are resized to 128 x 128" in said
