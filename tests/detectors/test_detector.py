"""What all detectors share: predicting images, files and folders, and the key of what is made of them."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.detector import Detector, FitResult, Outputs, SourceDetector
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.splits import Split
from kdad.parameters.strict import StrictModel
from kdad.scoring.image_score import ImageScore
from kdad.scoring.threshold import quantile_threshold
from memory_images import MemoryImages, split_of


class _Settings(StrictModel):
    maps: bool = True


class _Brightness(Detector):
    """An image's red channel is its map, the mean of it the raw score; it learns nothing."""

    system, Settings, Reference = "brightness", _Settings, NetworkReference

    @classmethod
    def frozen_networks(cls, settings, feature_set, train_context):
        return {}

    def fit(self, feature_set, train_context):
        self.size, self.key = feature_set.images.size, "key"
        return FitResult(None, 0.0, False)

    def state_dict(self):
        return {}

    def metadata(self):
        return {}

    def load_state(self, state, facts):
        pass

    def maps(self, images, outputs=None, methods=None):
        red = images[:, 0]
        methods = self.needed_methods if methods is None else methods
        return Outputs({"mean": red.mean((1, 2))}, dict.fromkeys(methods, red))

    @property
    def methods(self):
        return ["red"] if self.settings.maps else []

    @property
    def image_score(self):
        return ImageScore("red", "map_maximum") if self.settings.maps else ImageScore("mean", "raw")


@pytest.fixture
def detector(fit) -> _Brightness:
    """A detector with the threshold 0.5 and validation scores 0.1, 0.5, 0.5 and 0.9."""
    return _calibrated(fit(_Brightness, _Settings()).detector)


def _calibrated(detector):
    scores = np.array([0.9, 0.5, 0.1, 0.5])
    return detector.calibrated(quantile_threshold(scores, 0.6), scores)


@pytest.mark.parametrize(
    ("value", "decision", "percentile"), [(0.6, True, 0.75), (0.5, False, 0.25), (0.05, False, 0.0), (1.0, True, 1.0)]
)
def test_a_prediction_by_hand(detector, value, decision, percentile):
    image = np.full((32, 48, 3), value)
    found = detector.predict(image)
    assert found.score == pytest.approx(value)
    assert found.threshold == 0.5
    assert (found.decision, found.percentile) == (decision, percentile)
    np.testing.assert_allclose(found.map, np.full((32, 48), value), rtol=1e-6)


def test_a_detector_without_maps_predicts_by_its_raw_score(fit):
    detector = _calibrated(fit(_Brightness, _Settings(maps=False)).detector)
    image = np.zeros((32, 48, 3))
    image[:16] = 1  # half of it
    found = detector.predict(image * 0.5)
    assert (found.map, found.score, found.decision) == (None, 0.25, False)


def test_an_image_of_any_size_and_kind_is_resized(detector, tmp_path):
    pixels = np.full((64, 20), 153, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    for given in (pixels, Image.fromarray(pixels), tmp_path / "grey.png", str(tmp_path / "grey.png")):
        found = detector.predict(given)
        assert found.map.shape == (32, 48)
        assert found.score == pytest.approx(0.6)


def test_nothing_is_predicted_without_a_threshold(fit):
    detector = fit(_Brightness, _Settings()).detector
    with pytest.raises(InputError, match="the detector has no threshold; run the pipeline 'calibration' on it first"):
        detector.predict(np.zeros((32, 48)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_folder_is_predicted_in_order_and_a_bad_file_has_a_problem(detector, tmp_path, batch_size):
    for name, value in (("b/1.png", 255), ("a.png", 51), ("c.png", 153)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((10, 20), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "b/0.png").write_text("no image")
    found = list(detector.predict_folder(tmp_path, batch_size))
    assert [file.path.relative_to(tmp_path).as_posix() for file in found] == ["a.png", "b/0.png", "b/1.png", "c.png"]
    scores = [file.prediction and file.prediction.score for file in found]
    assert scores == [pytest.approx(0.2), None, pytest.approx(1.0), pytest.approx(0.6)]
    assert [file.problem is None for file in found] == [True, False, True, True]
    assert "0.png: cannot be read as an image" in found[1].problem
    assert found[1].image is None
    assert found[0].image.shape == (3, 10, 20)  # at its own size
    assert all(file.milliseconds > 0 for file in found)


def test_no_more_files_are_read_than_a_batch_holds(detector, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    read = []
    monkeypatch.setattr(
        "kdad.detectors.predictor.read_image",
        lambda path, *more: read.append(path) or np.zeros((3, 4, 4), np.float32),
    )
    files = detector.predict_files(iter(paths), 2)
    next(files)
    assert read == paths[:2]
    assert len(list(files)) == 4


def test_the_images_of_a_batch_are_free_when_the_next_is_read(detector, tmp_path, monkeypatch):
    images, living = [], []

    def read(path, *more):
        living.append(sum(image() is not None for image in images))
        image = np.zeros((3, 4, 4), np.float32)
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr("kdad.detectors.predictor.read_image", read)
    monkeypatch.setattr("kdad.detectors.predictor.reading_threads", lambda: 1)
    for file in detector.predict_files([tmp_path / f"{number}.png" for number in range(6)], 2):
        del file
    assert max(living) <= 1


def test_large_photographs_are_read_fewer_at_once(detector, tmp_path, monkeypatch):
    for number in range(4):
        Image.fromarray(np.full((10, 20), 51, np.uint8)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr("kdad.detectors.predictor.PIXELS_TOGETHER", 400)
    sizes = []
    predict_batch = type(detector).predict_batch
    monkeypatch.setattr(
        type(detector), "predict_batch", lambda self, images: sizes.append(len(images)) or predict_batch(self, images)
    )
    assert len(list(detector.predict_folder(tmp_path))) == 4
    assert sizes == [2, 2]


def test_a_file_whose_score_is_not_finite_has_a_problem(detector, tmp_path, monkeypatch):
    Image.fromarray(np.full((10, 20), 51, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "ground_truth").mkdir()
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / "ground_truth/a.png")  # a mask is no image to predict
    monkeypatch.setattr(
        type(detector), "score_and_show", lambda *_: (np.array([np.nan]), np.zeros((1, 32, 48), np.float32))
    )
    (file,) = detector.predict_folder(tmp_path)
    assert file.prediction is None and file.problem.endswith("a.png: its score is not finite; look at the image")


@pytest.mark.parametrize(
    "change",
    ["learnt", "methods", "settings", "images", "split"],
)
def test_the_key_of_raw_maps_changes_with_all_that_they_depend_on(detector, images, split, monkeypatch, change):
    feature_set, methods = FeatureSet(images, split, {}), ["red"]
    before = detector.raw_key(methods, feature_set)
    assert detector.raw_key(["red"], replace(feature_set, split=Split(split.table.copy()))) == before
    if change == "learnt":
        detector.key = "other"
    elif change == "methods":
        methods = ["red", "green"]
    elif change == "settings":
        monkeypatch.setattr(_Brightness, "map_settings", lambda *_: {"points": "all"})
    elif change == "images":
        feature_set = FeatureSet(images, split_of(MemoryImages(seed=1)), {})
    else:
        swapped = split.table["split"].replace({"test": "validation", "validation": "test"})
        feature_set = replace(feature_set, split=Split(split.table.assign(split=swapped)))
    assert detector.raw_key(methods, feature_set) != before


def test_images_of_another_size_are_refused(detector):
    with pytest.raises(InputError, match="images are 32 x 32, but the detector was made for 32 x 48"):
        detector.predict_batch(torch.zeros(2, 3, 32, 32))


def test_the_source_of_the_settings_is_the_one_frozen_network(images, split, train_context):
    settings = BaselineSettings(
        source={"name": "timm:test_resnet", "weights": "random", "critical_points": ["stage2", "stage1"]},
        features={"batch_size": 5},
        baselines={"methods": {"position_gaussian": {"detector": "position_gaussian"}}},
    )
    found = SourceDetector.frozen_networks(settings, FeatureSet(images, split, {}), train_context)
    assert list(found) == ["source"]
    assert (found["source"].name, found["source"].critical_points) == ("timm:test_resnet", ["stage1", "stage2"])
    assert SourceDetector.extraction_options(settings, images.size).batch_size == 5
