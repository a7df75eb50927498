"""A table in, a table out: what a logged model does."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

import kdad
from kdad import detectors
from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.scoring.threshold import quantile_threshold
from kdad.serving.app import create_app
from kdad.serving.table import open_logged, parse_invocation, predict_table
from serving_files import png, text


def test_each_row_by_its_own_kind_and_name(tmp_path, predictor):
    (tmp_path / "a.png").write_bytes(png(255))
    table = pd.DataFrame({"image": [png(51), text(204), str(tmp_path / "a.png")]}, index=["x", "y", "z"])
    found = predict_table(predictor, table)
    assert found.index.tolist() == ["x", "y", "z"]
    assert found.columns.tolist() == ["score", "threshold", "decision"]
    assert found["score"].tolist() == pytest.approx([0.2, 0.8, 1.0], rel=1e-6)
    assert found["threshold"].tolist() == [0.5] * 3
    assert found["decision"].tolist() == [0, 1, 1]


def test_arrays_a_few_at_a_time(predictor):
    values = np.arange(20, dtype=np.uint8) * 10
    batch = np.tile(values[:, None, None, None], (1, 8, 8, 3))
    assert predict_table(predictor, batch)["score"].tolist() == pytest.approx(values / 255, rel=1e-6)
    assert predictor.batches == [8, 8, 4]
    predict_table(predictor, pd.DataFrame({"image": list(batch)}))


def test_maps_when_they_are_asked_for(predictor):
    (found,) = predict_table(predictor, pd.DataFrame({"image": [png(255)]}), True)["map"]
    assert base64.b64decode(found).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"image": [png(1)] * 10 + [b"torn"]}), "row 10: it is no image"),
        (pd.DataFrame({"image": [png(1), None]}), "row 1: it is null"),
        (pd.DataFrame({"image": []}), "empty"),
        (pd.DataFrame({"images": [png(1)]}), "no column 'image'; did you mean 'images'"),
        (pd.DataFrame({"image": [png(1)], "label": [0]}), "more than the one column"),
        (np.zeros((8, 8, 3), np.uint8), r"give \(B, H, W, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "empty"),
        ("image", "the input is str"),
    ],
)
def test_what_cannot_be_predicted(predictor, table, said):
    with pytest.raises(InputError, match=said):
        predict_table(predictor, table)


def test_a_path_is_refused_where_it_may_not_be(tmp_path, predictor):
    (tmp_path / "a.png").write_bytes(png(255))
    with pytest.raises(InputError, match="row 0: it is not base64 text; a path is not opened"):
        predict_table(predictor, pd.DataFrame({"image": [str(tmp_path / "a.png")]}), paths=False)


def test_a_detector_of_this_version_opens(detector_folder):
    assert open_logged(detector_folder).threshold == detectors.load(detector_folder).threshold


def test_a_detector_of_another_version_says_both(tmp_path, detector_folder, monkeypatch):
    facts = json.loads((detector_folder / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps(facts | {"format": 2, "package": "9.8.7"}))
    with pytest.raises(InputError, match=r"logged by kdad 9\.8\.7, and this is kdad 0\.2\.0, which cannot read it"):
        open_logged(tmp_path)
    (tmp_path / "detector.json").write_text(json.dumps(facts | {"format": 2}))
    with pytest.raises(InputError, match=r"^(?!.*logged by)"):
        open_logged(tmp_path)
    assert facts["package"] == kdad.__version__


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": ["image"], "data": [["a"], ["b"]]}},
        {"dataframe_split": {"columns": ["image"], "index": [7, 9], "data": [["a"], ["b"]]}},
        {"dataframe_records": [{"image": "a"}, {"image": "b"}]},
        {"instances": [{"image": "a"}, {"image": "b"}]},
        {"instances": ["a", "b"]},
        {"inputs": {"image": ["a", "b"]}},
        {"inputs": ["a", "b"]},
    ],
)
@pytest.mark.parametrize(("params", "with_map"), [({}, False), ({"map": False}, False), ({"map": True}, True)])
def test_every_form_of_mlflows_gives_the_images_in_order(content, params, with_map):
    body = json.dumps(content | {"params": params}).encode()
    assert parse_invocation(body) == (["a", "b"], (with_map, None, False))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is no JSON"),
        (b'{"inputs": ["a", ', "cut short"),
        (b"\xff\xfe\xfd", "UTF-8"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "has 0 of 'dataframe_split'"),
        (b'{"inputs": ["a"], "instances": ["a"]}', "has 2 of"),
        (b'{"input": ["a"]}', "unknown field 'input'"),
        (b'{"inputs": ["a"], "params": {"maps": true}}', "'params' takes {"),
        (b'{"inputs": ["a"], "params": {"map": 1}}', "'map' and 'group' of 'params' are true or false, and 'category'"),
        (b'{"inputs": ["a"], "params": {"category": 1}}', "'category' is text or null"),
        (b'{"inputs": ["a"], "params": []}', "'params' takes {"),
        (b'{"inputs": []}', "table is empty"),
        (b'{"inputs": {}}', "no column 'image'"),
        (b'{"inputs": {"image": "a"}}', "is a list of images"),
        (b'{"inputs": "a"}', "a list of images"),
        (b'{"inputs": {"image": ["a"], "label": [1]}}', "more than the one column 'image': 'label'"),
        (b'{"instances": {"image": ["a"]}}', "is a list of images"),
        (b'{"instances": [{"picture": "a"}]}', "row 0: the table has no column 'image'"),
        (b'{"dataframe_split": {"columns": ["image"], "data": []}}', "table is empty"),
        (b'{"dataframe_split": {"columns": ["imag"], "data": [["a"]]}}', "did you mean 'imag'"),
        (b'{"dataframe_split": {"columns": ["image", "image"], "data": [["a", "b"]]}}', "twice the same"),
        (b'{"dataframe_split": {"columns": ["image"], "data": [["a"], ["b", "c"]]}}', "row 1: it is no list of one"),
        (b'{"dataframe_split": {"columns": ["image"], "data": ["a"]}}', "row 0: it is no list of one"),
        (b'{"dataframe_split": {"columns": ["image"]}}', "takes 'columns' and 'data'"),
        (b'{"dataframe_split": {"columns": "image", "data": []}}', "are lists"),
        (b'{"dataframe_split": [["a"]]}', "takes 'columns' and 'data'"),
        (b'{"dataframe_records": {"image": "a"}}', "is a list of images, or of rows"),
        (b'{"dataframe_records": [{"image": "a"}, "b"]}', "row 1: it is no object"),
        (b'{"dataframe_records": [{"image": "a"}, {"image": "a", "x": 1}]}', "row 1: the table has more than"),
    ],
)
def test_what_is_wrong_with_a_body_is_one_sentence(body, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_invocation(body)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("group_score", "score"), [("mean", 0.6), ("max", 0.8)])
def test_images_of_one_part_get_one_decision(predictor, group_score, score):
    groups = np.array(list("aabb"))
    known = quantile_threshold(np.array([0.1, 0.5, 0.6, 0.7]), 0.5, groups, group_score)
    assert (known.value, known.group_value) == (0.7, pytest.approx(0.65 if group_score == "mean" else 0.7))
    predictor.calibrated(known, np.array([0.1, 0.5, 0.6, 0.7]), (0.0, 1.0))
    found = predict_table(predictor, pd.DataFrame({"image": [png(102), png(204)]}), group=True)
    assert found["decision"].tolist() == [0, 1]
    assert found["group_score"].tolist() == pytest.approx([score] * 2, rel=1e-6)
    assert found["group_decision"].tolist() == [int(score > known.group_value)] * 2
    with TestClient(create_app(predictor, ServingParameters())) as client:
        for params in ({}, {"params": {"group": True}}):
            body = {"inputs": [text(102), text(204)]} | params
            rows = client.post("/invocations", json=body).json()["predictions"]
            expected = found.columns.tolist() if params else ["score", "threshold", "decision"]
            assert all(list(row) == expected for row in rows)
        assert [row["group_decision"] for row in rows] == found["group_decision"].tolist()
