"""A detector as a model of MLflow: what is in it, that it loads by code and scores as in process, and the registry."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException

from kdad import __version__, detectors
from kdad.errors import InputError
from kdad.project.places import find_detector
from kdad.tracking.fetching import fetch_model_detector, fetch_run_detector
from kdad.tracking.uploader import begin_run
from kdad.tracking.writer import MlflowWriter
from serving_files import png

NEEDS = ["mlflow==3.17.2", "torch==2.14.1"]


@pytest.fixture
def log(tmp_path, destination, detector_folder):
    """A function that logs the detector by a run of its own, and returns the run and its model."""

    def act(register=None, champion=False):
        run, _ = begin_run(destination, tmp_path / "waiting", "trial", {}, None)
        run.mark_begun()
        run.metrics({"image_auroc": 0.75, "pro_auc.gradients": 0.5})
        run.model(detector_folder, NEEDS, register, champion)
        MlflowWriter(destination).write(run)
        client = mlflow.MlflowClient(destination.uri)
        found = client.get_run(run.sent["id"])
        (output,) = found.outputs.model_outputs
        return found, client.get_logged_model(output.model_id)

    return act


@pytest.fixture
def store(destination, monkeypatch):
    """The store that MLflow itself looks in, for `load_model`; its own setter would leave a variable behind."""
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", destination.uri)


def test_what_a_model_says_of_itself(log, detector_folder):
    run, model = log()
    assert (model.name, model.status, model.source_run_id) == ("detector", "READY", run.info.run_id)
    assert {metric.key: metric.value for metric in model.metrics} == {"image_auroc": 0.75}
    threshold = detectors.load(detector_folder).threshold
    said = {"system": "mkd", "image_size": "[32, 48]", "dataset_digest": "abc", "commit": "c0ffee", "kdad": __version__}
    said |= {"threshold": str(threshold.value), "threshold_rule": "quantile"}
    said |= {"promised_false_positive_rate": str(threshold.expected_false_positive_rate)}
    assert model.params.items() >= said.items()
    place = Path(model.artifact_location)
    written = yaml.safe_load((place / "MLmodel").read_text())
    assert written["metadata"]["metrics"] == {"image_auroc": 0.75}
    assert written["flavors"]["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert (place / "requirements.txt").read_text().split() == NEEDS
    names = {path.name for path in place.rglob("*") if path.is_file()}
    assert names >= {"mlflow_model.py", "kdad.zip", "detector.json", "learnt.safetensors", "input_example.json"}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc"))]


def test_the_runs_metrics_are_not_logged_twice(log, destination):
    run, _ = log()
    history = mlflow.MlflowClient(destination.uri).get_metric_history(run.info.run_id, "image_auroc")
    assert [one.value for one in history] == [0.75]


def test_it_loads_by_code_and_predicts_as_in_process(log, store, detector_folder, tmp_path):
    run, _ = log()
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/detector")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(pictures[2]))
    table = pd.DataFrame({"image": [png(pictures[0]), png(pictures[1]), str(tmp_path / "a.png")]})
    here = detectors.load(detector_folder)
    expected = [here.predict(picture) for picture in pictures]
    found = loaded.predict(table, params={"map": True})
    # Scores of one image may differ in the last digits when it is predicted beside others.
    assert found["score"].tolist() == pytest.approx([one.score for one in expected], rel=1e-5)
    assert found["decision"].tolist() == [int(one.decision) for one in expected]
    assert found["map"].str.startswith("iVBOR").all()
    by_array = loaded.predict({"image": pictures})["score"].tolist()
    assert by_array == pytest.approx([one.score for one in expected], rel=1e-5)
    assert loaded.predict(loaded.input_example).columns.tolist() == ["score", "threshold", "decision"]
    assert [column.name for column in loaded.metadata.signature.outputs] == ["score", "threshold", "decision", "map"]
    with pytest.raises(ValueError, match="row 1: it is no image"):
        loaded.predict(pd.DataFrame({"image": [png(1), b"torn"]}))


def test_behind_mlflows_own_server_a_path_is_not_opened(log, store, tmp_path, monkeypatch):
    _, model = log()
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    (tmp_path / "a.png").write_bytes(png(7))
    table = pd.DataFrame({"image": [str(tmp_path / "a.png")]})
    assert len(loaded.predict(table)) == 1
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    with pytest.raises(MlflowException, match="row 0: it is not base64 text; a path is not opened here"):
        loaded.predict(table)


def test_names_versions_and_the_champion(log, destination):
    client = mlflow.MlflowClient(destination.uri)
    _, first = log("brick", champion=True)
    _, second = log("brick")
    versions = {one.version: one.source for one in client.search_model_versions("name = 'brick'")}
    assert versions == {1: first.artifact_location, 2: second.artifact_location}
    assert client.get_registered_model("brick").aliases == {"champion": 1}
    tag = client.get_logged_model(second.model_id).tags["mlflow.modelVersions"]
    assert json.loads(tag) == [{"name": "brick", "version": 2}]
    log("brick", champion=True)
    assert client.get_registered_model("brick").aliases == {"champion": 3}
    log()
    assert len(client.search_model_versions("name = 'brick'")) == 3


def test_what_was_interrupted_is_gone_on_with(log, destination, monkeypatch, tmp_path, detector_folder):
    def fail(*_, **__):
        raise ConnectionError("gone")

    run, _ = begin_run(destination, tmp_path / "waiting", "trial", {}, None)
    run.mark_begun()
    run.model(detector_folder, NEEDS, "brick", False)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "finalize_logged_model", fail)
        with pytest.raises(ConnectionError):
            MlflowWriter(destination).write(run)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "create_model_version", fail)
        with pytest.raises(ConnectionError):
            MlflowWriter(destination).write(run)
    MlflowWriter(destination).write(run)
    assert not list((run.path / "models").rglob("detector.json"))
    client = mlflow.MlflowClient(destination.uri)
    (experiment,) = [one.experiment_id for one in client.search_experiments() if one.name == "kdad"]
    (model,) = client.search_logged_models([experiment])
    assert model.status == "READY"
    assert len(client.search_model_versions("name = 'brick'")) == 1


def test_a_model_whose_answer_was_lost_is_gone_on_with(destination, monkeypatch, tmp_path, detector_folder):
    create = mlflow.MlflowClient.create_logged_model

    def lost(self, *arguments, **named):
        create(self, *arguments, **named)
        raise ConnectionError("gone")

    run, _ = begin_run(destination, tmp_path / "waiting", "trial", {}, None)
    run.mark_begun()
    run.model(detector_folder, NEEDS)
    run.model(detector_folder, NEEDS)  # of another system of the same run
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "create_logged_model", lost)
        with pytest.raises(ConnectionError):
            MlflowWriter(destination).write(run)
    MlflowWriter(destination).write(run)
    client = mlflow.MlflowClient(destination.uri)
    (experiment,) = [one.experiment_id for one in client.search_experiments() if one.name == "kdad"]
    assert [model.status for model in client.search_logged_models([experiment])] == ["READY", "READY"]


def test_the_detector_alone_is_fetched_from_a_store_that_is_not_the_process_own(
    log, destination, detector_folder, tmp_path
):
    run, model = log("brick", champion=True)
    assert mlflow.get_tracking_uri() != destination.uri
    facts = json.loads((detector_folder / "detector.json").read_text())
    for place, fetch in enumerate(
        [
            lambda target: fetch_run_detector(run.info.run_id, target, destination.uri),
            lambda target: fetch_model_detector("brick@champion", target, destination.uri),
            lambda target: fetch_model_detector("brick/1", target, destination.uri),
            lambda target: fetch_model_detector(model.model_id, target, destination.uri),
        ]
    ):
        target = tmp_path / str(place)
        target.mkdir()
        folder = fetch(target)
        assert json.loads((folder / "detector.json").read_text()) == facts
        assert not list(target.rglob("*.zip"))
        shutil.rmtree(target)


def test_a_run_of_two_systems_says_by_which_address_each_detector_is_fetched(destination, detector_folder, tmp_path):
    other = shutil.copytree(detector_folder, tmp_path / "other" / "detector")
    facts = json.loads((other / "detector.json").read_text())
    (other / "detector.json").write_text(json.dumps(facts | {"system": "stfpm"}))
    run, _ = begin_run(destination, tmp_path / "waiting", "trial", {}, None)
    run.mark_begun()
    run.model(detector_folder, NEEDS)
    run.model(other, NEEDS)
    MlflowWriter(destination).write(run)
    client = mlflow.MlflowClient(destination.uri)
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()], "")
    models = client.search_logged_models([found.info.experiment_id])
    ids = {model.params["system"]: model.model_id for model in models}
    named = rf"of mkd \(models:/{ids['mkd']}\) and stfpm \(models:/{ids['stfpm']}\); give the models:/ address"
    for address in (f"runs:/{found.info.run_id}", f"runs:/{found.info.run_id}/detector"):
        with pytest.raises(InputError, match=named):
            find_detector(address, tmp_path, destination.uri)
    folder, _ = find_detector(f"models:/{ids['stfpm']}", tmp_path, destination.uri)
    assert json.loads((folder / "detector.json").read_text())["system"] == "stfpm"
