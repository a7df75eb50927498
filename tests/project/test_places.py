import pytest

from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.project.places import (
    OutputFolder,
    dataset_claims,
    find_owner,
    folder_claim,
    inference_claim,
    reserve,
    results_place,
)


def folder(root, category=None) -> DatasetParameters:
    return DatasetParameters(name="folder", root=str(root), category=category, image_size=32)


def take(data, dataset, *categories) -> list[str]:
    """Let a run on `dataset` take its places, and return them."""
    claims = dataset_claims(data, dataset, categories)
    for claim in claims.values():
        reserve(data, claim)
    return [claim.place for claim in claims.values()]


def test_roots_of_one_last_name_have_places_of_their_own(tmp_path):
    screw, nut = tmp_path / "screw/images", tmp_path / "nut/images"
    assert take(tmp_path, folder(screw)) == ["folder/images"]
    (other,) = take(tmp_path, folder(nut))
    assert other.startswith("folder-") and other.endswith("/images")
    assert take(tmp_path, folder(screw)) == ["folder/images"]
    assert take(tmp_path, folder(nut)) == [other]
    assert find_owner(tmp_path, "folder/images") == str(screw)
    assert find_owner(tmp_path, other) == str(nut)


def test_a_place_of_its_own_is_kept_when_the_other_root_has_gone(tmp_path):
    take(tmp_path, folder(tmp_path / "screw/images"))
    (other,) = take(tmp_path, folder(tmp_path / "nut/images"))
    (tmp_path / "02_intermediate/folder/images/root.txt").unlink()
    assert take(tmp_path, folder(tmp_path / "nut/images")) == [other]


def test_other_last_names_and_other_categories_are_no_clash(tmp_path):
    assert take(tmp_path, folder(tmp_path / "a/images")) == ["folder/images"]
    assert take(tmp_path, folder(tmp_path / "a/photos")) == ["folder/photos"]
    assert take(tmp_path, folder(tmp_path / "mvtec", "bottle")) == ["folder/bottle"]
    assert take(tmp_path, folder(tmp_path / "copy/mvtec", "cable")) == ["folder/cable"]


def test_all_categories_of_a_plan_lie_together(tmp_path):
    take(tmp_path, folder(tmp_path / "mvtec", "bottle"))
    places = take(tmp_path, folder(tmp_path / "copy/mvtec", "cable"), "bottle", "cable")
    assert [place.split("/")[1] for place in places] == ["cable", "bottle"]
    assert len({place.split("/")[0] for place in places}) == 1
    assert not places[0].startswith("folder/")


def test_a_claim_says_what_is_taken_by_another(tmp_path):
    take(tmp_path, folder(tmp_path / "mvtec", "bottle"))
    claims = dataset_claims(tmp_path, folder(tmp_path / "copy/mvtec", "cable"), ["bottle"])
    assert (claims["bottle"].taken, claims["cable"].taken) == ("folder/bottle", None)


@pytest.mark.parametrize("name", ["textures", "digits"])
def test_embedded_sets_stay_where_they_are_and_leave_no_record(tmp_path, name):
    given = {"category": "brick"} if name == "textures" else {"normal_class": 3}
    dataset = DatasetParameters(name=name, image_size=32, **given)
    assert take(tmp_path, dataset) == [f"{name}/{dataset.category_name}"]
    assert not list(tmp_path.iterdir())


def test_downloaded_files_and_those_of_a_root_lie_apart(tmp_path):
    downloaded = DatasetParameters(name="mnist", normal_class=3, image_size=32)
    given = DatasetParameters(name="mnist", normal_class=3, image_size=32, root=str(tmp_path / "mnist"))
    assert take(tmp_path, downloaded) == ["mnist/class_3"]
    assert take(tmp_path, given) != ["mnist/class_3"]


def test_folders_to_predict_of_one_last_name_lie_apart(tmp_path):
    first, second = folder_claim(tmp_path, "inference", tmp_path / "a/line"), None
    reserve(tmp_path, first)
    second = folder_claim(tmp_path, "inference", tmp_path / "b/line")
    assert first.place == "inference/line"
    assert second.place.startswith("inference/line-") and second.taken == "inference/line"
    reserve(tmp_path, second)
    assert folder_claim(tmp_path, "inference", tmp_path / "a/line").place == first.place
    assert folder_claim(tmp_path, "inference", tmp_path / "b/line").place == second.place
    assert folder_claim(tmp_path, "calibrated", tmp_path / "b/line").place == "calibrated/line"


def test_a_place_that_was_taken_since_is_not_overwritten(tmp_path):
    claim = OutputFolder("folder/images", "/nut/images")
    reserve(tmp_path, OutputFolder("folder/images", "/screw/images"))
    with pytest.raises(
        InputError, match="'folder/images' has just been taken by a run on '/screw/images'; give the same"
    ):
        reserve(tmp_path, claim)


def test_predictions_of_folders_of_one_name_lie_apart(tmp_path):
    places = []
    for folder in ("a/line", "b/line"):
        parameters = {"inference": {"images": str(tmp_path / folder)}}
        places.append(results_place("inference", parameters, tmp_path / "data"))
        reserve(tmp_path / "data", inference_claim(parameters["inference"], tmp_path / "data"))
    assert places[0] == "data/08_reporting/inference/line"
    assert places[1].startswith("data/08_reporting/inference/line-")


@pytest.mark.parametrize(
    ("pipeline", "block", "place"),
    [
        ("inference", {"images": "a/photos/"}, "data/08_reporting/inference/photos"),
        ("inference", {"images": "a/photos", "output": "/b/c"}, "/b/c"),
        (
            "comparison",
            {"detectors": ["a/mkd/detector", "models:/brick@champion"], "images": "a/photos"},
            "data/08_reporting/compared/photos-",
        ),
        (
            "calibration",
            {"detector": "runs:/12ab", "images": None, "rule": "quantile", "value": 0.9},
            "data/06_models/calibrated/12ab/validation-",
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
        (
            "calibration",
            {"detector": "models:/brick/3", "images": "a/x", "rule": "f1", "value": None},
            "data/06_models/calibrated/brick_3/x-",
        ),
    ],
)
def test_results_are_named_after_what_a_pipeline_was_given(pipeline, block, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is the latest
    assert results_place(pipeline, {pipeline: block}).startswith(place)


def test_comparisons_lie_apart_by_detectors_and_images(tmp_path):
    def place(*detectors, images="x/good"):
        block = {"detectors": detectors, "images": images}
        return results_place("comparison", {"comparison": block}, tmp_path / "data")

    assert len({place("a", "b"), place("b", "a"), place("a", "c"), place("a", "b", images="y/good")}) == 4
    assert place("a", "b") == place("x/../a", "b")


def test_calibrations_lie_apart_by_detector_images_and_rule(tmp_path):
    def place(detector="a/mkd/detector", images="x/good", value=0.9):
        block = {"detector": detector, "images": images, "rule": "quantile", "value": value}
        return results_place("calibration", {"calibration": block}, tmp_path / "data")

    others = [{"value": 0.95}, {"images": "y/good"}, {"images": None}, {"detector": "b/mkd/detector"}]
    assert len({place(), *(place(**other) for other in others)}) == 5
    assert place() == place(images="x/../x/good")
    assert place().startswith("data/06_models/calibrated/a_mkd/good-") and place().endswith("/quantile_0.9")
