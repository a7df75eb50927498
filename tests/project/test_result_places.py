"""Where the results of a kept detector go, and that none takes another's place."""

import pytest

from kdad.project.places import reserve
from kdad.project.result_places import results_claim, results_place


def test_predictions_of_folders_of_one_name_lie_apart(tmp_path):
    places = []
    for folder in ("a/line", "b/line"):
        parameters = {"inference": {"images": str(tmp_path / folder)}}
        places.append(results_place("inference", parameters, tmp_path))
        reserve(tmp_path, results_claim("inference", parameters["inference"], tmp_path))
    assert places[0] == "data/08_reporting/inference/line"
    assert places[1].startswith("data/08_reporting/inference/line-")


@pytest.mark.parametrize(
    ("pipeline", "block", "place"),
    [
        ("inference", {"images": "a/photos/"}, "data/08_reporting/inference/photos"),
        ("inference", {"images": "a/photos", "output": "/b/c"}, "/b/c"),
        (
            "calibration",
            {"images": None, "rule": "quantile", "value": 0.9},
            "data/06_models/calibrated/validation/quanti",
        ),
        (
            "export",
            {"detector": "/m/folder/bottle/mkd/detector/", "precision": "int8"},
            "data/06_models/exported/folder_bottle_mkd/onnx_int8",
        ),
        (
            "export",
            {"detector": "latest", "precision": "int8"},
            "data/06_models/exported/latest/onnx",
        ),
        ("export", {"detector": "runs:/12ab", "output": "/b"}, "/b"),
        (
            "export",
            {"detector": "runs:/12ab/detector", "precision": "int8"},
            "data/06_models/exported/12ab/onnx_int8",
        ),
        (
            "export",
            {"detector": "models:/brick@champion", "precision": "int8"},
            "data/06_models/exported/brick_champion/onnx_int8",
        ),
        (
            "export",
            {"detector": "models:/our brick 2.0/3", "precision": "int8"},
            "data/06_models/exported/our_brick_2.0_3/onnx_int8",
        ),
        ("calibration", {"images": "a/x", "rule": "f1", "value": None}, "data/06_models/calibrated/x/f1"),
    ],
)
def test_results_are_named_after_what_a_pipeline_was_given(pipeline, block, place):
    assert results_place(pipeline, {pipeline: block}).startswith(place)


def test_results_of_one_folder_by_other_rules_lie_apart():
    blocks = [{"images": None, "rule": "quantile", "value": value} for value in (0.9, 0.95)]
    assert len({results_place("calibration", {"calibration": block}) for block in blocks}) == 2
