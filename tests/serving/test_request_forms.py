"""Every form of a request that the documentation names gives the same scores, by the server and by MLflow's own."""

import base64
import json
from types import SimpleNamespace

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

from kdad import detectors
from kdad.parameters.blocks import ServingParameters
from kdad.serving.app import create_app
from kdad.tracking import logged_model
from serving_files import png

_PICTURES = np.random.default_rng(5).integers(0, 256, (2, 40, 50, 3), np.uint8)


def _forms(images: list) -> dict[str, dict]:
    rows = [{"image": image} for image in images]
    return {
        "dataframe_split": {"columns": ["image"], "data": [[image] for image in images]},
        "dataframe_records": rows,
        "instances": images,
        "instances of rows": rows,
        "inputs": images,
        "inputs by column": {"image": images},
        "inputs of rows": rows,
    }


def _bodies():
    """Yield a name and a body for each form, encoding and number of images."""
    texts = [base64.b64encode(png(picture)).decode() for picture in _PICTURES]
    broken = ["\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n" for text in texts]
    uris = [f"data:image/png;base64,{text}" for text in texts]
    encodings = {"base64": texts, "with line breaks": broken, "data URIs": uris, "arrays": _PICTURES.tolist()}
    for encoding, images in encodings.items():
        for count in (1, 2):
            for form, content in _forms(images[:count]).items():
                yield f"{form}, {encoding}, {count}", {form.split()[0]: content}, count


@pytest.fixture(scope="module")
def servers(detector_folder, tmp_path_factory):
    """Clients of both servers of one detector."""
    metadata = logged_model.describe_model(json.loads((detector_folder / "detector.json").read_text()))
    made = SimpleNamespace(artifact_location=str(tmp_path_factory.mktemp("model")), model_id="m-1")
    with (
        pytest.MonkeyPatch.context() as patch,
        logged_model._built(detector_folder, metadata, ["numpy"], made, "1") as at,
    ):
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # set, and not put back, by MLflow's server
        theirs = scoring_server.init(mlflow.pyfunc.load_model(str(at)))
        ours = create_app(detectors.load(detector_folder), ServingParameters())
        with TestClient(ours) as first, TestClient(theirs) as second:
            yield first, second


def test_every_form_gives_the_same_by_both_servers(servers, detector_folder):
    expected = [detectors.load(detector_folder).predict(picture).score for picture in _PICTURES]
    for name, body, count in _bodies():
        for params in ({}, {"params": {"map": True}}):
            for server in servers:
                answer = server.post("/invocations", json=body | params)
                assert answer.status_code == 200, (name, answer.text)
                rows = answer.json()["predictions"]
                assert [row["score"] for row in rows] == pytest.approx(expected[:count], rel=1e-5), name
                assert all(("map" in row) == bool(params) for row in rows), name


def test_what_is_refused_is_a_sentence_by_both(servers):
    for body, said in (
        (
            {"inputs": [base64.b64encode(png(_PICTURES[0])).decode()], "params": {"category": "pill"}},
            "no threshold of the category 'pill'",
        ),
        (
            {"inputs": [base64.b64encode(png(_PICTURES[0])).decode()], "params": {"group": True}},
            "the detector decides on images alone; train with measuring.group_score",
        ),
        ({"inputs": ["/etc/passwd"]}, "row 0: it is not base64 text; a path is not opened here"),
        ({"instances": [{"image": "bm8gaW1hZ2U="}]}, "row 0: it is no image that can be read"),
        ({"dataframe_split": {"columns": ["imag"], "data": [["x"]]}}, "image"),
    ):
        for server in servers:
            answer = server.post("/invocations", json=body)
            assert answer.status_code == 400
            assert said in answer.json()["message"]
            assert "Traceback" not in answer.text


def test_a_file_is_taken_as_it_is_or_as_a_form_has_it(servers, detector_folder):
    content = png(_PICTURES[0])
    expected = detectors.load(detector_folder).predict(_PICTURES[0]).score
    text = base64.encodebytes(content)  # with line breaks
    asked = [
        {"content": content},
        {"files": {"file": ("part.png", content, "image/png")}},
        {"files": {"anything": content}},
        {"content": text, "headers": {"Content-Type": "text/plain"}},
        {"content": b"data:image/png;base64," + text},
    ]
    for one in asked:
        answer = servers[0].post("/predict", **one)
        assert answer.status_code == 200, answer.text
        assert answer.json()["score"] == pytest.approx(expected, rel=1e-5)
