"""A detector as a model of a tracking server: logged over HTTP, named in its registry, fetched and loaded again."""

import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from kdad import detectors
from kdad.serving.__main__ import open_predictor
from kept_detectors import DETECTOR, write_bricks
from projects import copy_project, run_pipeline

pytestmark = pytest.mark.long

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database, tracking_server) -> Path:
    """A project whose ``mlflow.yml`` names the server; one run there named its detector the champion, a later not."""
    project = copy_project(tmp_path_factory.mktemp("project"), migrated_database)
    conf = project / "conf/base/mlflow.yml"
    text = re.sub("mlflow_tracking_uri: .*", f"mlflow_tracking_uri: {tracking_server.uri}", conf.read_text())
    conf.write_text(text)
    write_bricks(project / "pictures")
    dataset = {"name": "folder", "root": str(project / "pictures"), "category": "brick", "validation_fraction": 0.4}
    tiny = {"source": {"name": "timm:test_resnet", "weights": "random"}, "points": "first 3"}
    for seed, champion in ((0, True), (1, False)):
        named = {"tracking": {"register_model": "brick", "champion": champion}, "seed": seed}
        run_pipeline(project, "test", "stfpm", runtime_params={"dataset": dataset, "stfpm": tiny} | named)
        shutil.copytree(project / DETECTOR, project / f"kept/{seed}")
    return project


@pytest.fixture
def client(tracking_server) -> mlflow.MlflowClient:
    """A client of the server."""
    return mlflow.MlflowClient(tracking_server.uri)


@pytest.fixture
def runs(client, project) -> list[mlflow.entities.Run]:
    """The runs, the earlier first."""
    experiment = client.get_experiment_by_name("kdad").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time"])


def _scores(predictor) -> list[float]:
    return [predictor.predict(picture).score for picture in PICTURES]


def test_each_run_has_its_detector_as_a_model_and_nothing_waits(client, runs, project, tracking_server):
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    for seed, run in enumerate(runs):
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert (model.name, model.status, model.source_run_id) == ("detector", "READY", run.info.run_id)
        kept = detectors.load(project / f"kept/{seed}")
        assert float(model.params["threshold"]) == pytest.approx(kept.threshold.value)
        metrics = {metric.key: metric.value for metric in model.metrics}
        assert metrics["image_auroc"] == run.data.metrics["image_auroc"]
    assert list((tracking_server.folder / "artifacts").rglob("learnt.safetensors"))
    assert not list((project / "mlruns/waiting").glob("*/refused/*"))


def test_the_champion_moves_only_when_it_is_asked_to(client, runs, project):
    versions = {int(one.version): one.run_id for one in client.search_model_versions("name = 'brick'")}
    assert versions == {1: runs[0].info.run_id, 2: runs[1].info.run_id}
    assert {alias: int(version) for alias, version in client.get_registered_model("brick").aliases.items()} == {
        "champion": 1
    }


def test_each_address_opens_the_detector_that_was_trained(runs, project, tracking_server):
    kept = [_scores(detectors.load(project / f"kept/{seed}")) for seed in (0, 1)]
    assert kept[0] != pytest.approx(kept[1], rel=1e-3)
    addresses = {"models:/brick@champion": 0, "models:/brick/1": 0, "models:/brick/2": 1}
    addresses |= {f"runs:/{run.info.run_id}": seed for seed, run in enumerate(runs)}
    addresses |= {f"runs:/{run.info.run_id}/detector": seed for seed, run in enumerate(runs)}
    addresses |= {f"models:/{run.outputs.model_outputs[0].model_id}": seed for seed, run in enumerate(runs)}
    for address, seed in addresses.items():
        predictor = open_predictor(address, project, tracking_server.uri)
        assert _scores(predictor) == pytest.approx(kept[seed], rel=1e-5), address
        assert predictor.threshold == detectors.load(project / f"kept/{seed}").threshold


@pytest.mark.parametrize("address", ["models:/brick@champion", "runs:/{run}/detector"])
def test_mlflow_loads_it_by_code(runs, project, tracking_server, monkeypatch, address):
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.uri)
    loaded = mlflow.pyfunc.load_model(address.format(run=runs[0].info.run_id))
    found = loaded.predict({"image": PICTURES})
    kept = detectors.load(project / "kept/0")
    assert found["score"].tolist() == pytest.approx(_scores(kept), rel=1e-5)
    assert found["threshold"].tolist() == [kept.threshold.value] * len(PICTURES)
    assert isinstance(found, pd.DataFrame)
