"""An exported file behind the server: it answers as the file does in process."""

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from exported_detectors import coloured_noise, export, made_detector
from kdad import detectors
from kdad.detectors.exported.detector import exported_file, open_exported
from kdad.parameters.blocks import ServingParameters
from kdad.serving.__main__ import main, open_predictor
from kdad.serving.app import create_app
from projects import PROJECT, once_a_session
from serving_files import png, split, text
from serving_process import ServingProcess

#: By runtime, what `DETECTOR` names: the folder, or the file in it.
PLACES = {"onnxruntime": "", "openvino": "detector.onnx"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A trained detector with a threshold."""
    return made_detector(tmp_path_factory)


@pytest.fixture(scope="module", params=["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)])
def place(request, detector, tmp_path_factory) -> Path:
    """What is to be served, for each runtime."""
    name = f"exported {request.param} float32"
    folder = once_a_session(tmp_path_factory, name, lambda made: export(detector, made, request.param))
    return folder / PLACES[request.param]


@pytest.fixture
def client(place):
    """A client of the server of a file, opened as the command opens it."""
    predictor = open_predictor(str(place), PROJECT, None)
    with TestClient(create_app(predictor, ServingParameters()), raise_server_exceptions=False) as made:
        yield made


def _pictures() -> list[np.ndarray]:
    """Return a picture of the detector's size, a larger one, and a grey area: not all are predicted alike."""
    return [coloured_noise(32, 48), coloured_noise(90, 60), np.full((32, 48, 3), 128, np.uint8)]


def test_each_way_of_asking_gives_what_the_file_gives_in_process(client, place):
    here = detectors.load(place)
    pictures = _pictures()
    expected = [here.predict(picture) for picture in pictures]
    assert len({prediction.decision for prediction in expected}) == 2
    rows = client.post("/invocations", content=split(*map(text, pictures))).json()["predictions"]
    files = [client.post("/predict", content=png(picture)).json() for picture in pictures]
    shown = [client.post("/predict?pictures=true", content=png(picture)).json() for picture in pictures]
    for answers in (rows, files, shown):
        scores = [answer["score"] for answer in answers]
        assert scores == pytest.approx([one.score for one in expected], abs=1e-5 * np.ptp(here.validation_scores))
        assert [answer["decision"] for answer in answers] == [int(one.decision) for one in expected]
        assert {answer["threshold"] for answer in answers} == {here.threshold.value}
    assert [answer["percentile"] for answer in files] == [one.percentile for one in expected]
    assert all(answer["heat"].startswith("iVBOR") for answer in shown)


def test_the_score_is_that_of_the_whole_file_its_resize_included(client, place):
    file = open_exported(exported_file(place))
    picture = coloured_noise(90, 60)
    (score,), _ = file.runtime.run_pixels(picture[None])
    spread = np.ptp(file.validation_scores)
    assert client.post("/predict", content=png(picture)).json()["score"] == pytest.approx(score, abs=1e-4 * spread)


def test_the_server_says_what_the_detector_says_of_itself(client, place, detector):
    said = client.get("/health").json()
    assert (said["system"], said["image_size"], said["maps"]) == ("stfpm", [32, 48], True)
    assert said["threshold"] == detector.threshold.value
    assert said["promise"] == detector.threshold.statement()
    assert said["folder"] == str(place)
    assert "memory / waves" in client.get("/").text


@pytest.mark.parametrize("place", ["onnxruntime"], indirect=True)
def test_the_command_serves_a_file(place, detector):
    server = ServingProcess(place / "detector.onnx")
    picture = coloured_noise(90, 60)
    answer = json.loads(urllib.request.urlopen(f"{server.address}/predict", data=png(picture), timeout=60).read())
    assert server.end() == (-15, "")
    expected = detector.predict(picture)
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4 * np.ptp(detector.validation_scores))
    assert (answer["threshold"], answer["decision"]) == (expected.threshold, int(expected.decision))


def test_a_file_that_is_no_detector_is_one_message(tmp_path):
    (tmp_path / "notes.txt").write_text("no detector")
    (tmp_path / "detector.onnx").write_bytes(b"torn")
    for name, said in (("notes.txt", "it does not end in .onnx"), ("detector.onnx", "cannot be read as ONNX")):
        found = CliRunner().invoke(main, [str(tmp_path / name), f"--conf-source={PROJECT / 'conf'}"])
        assert (found.exit_code, "Traceback" in found.output) == (4, False)
        assert said in found.output
