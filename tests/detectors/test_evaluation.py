"""Over a known set: decisions, what a detector is given with its threshold, and maps that are not finite."""

import dataclasses
import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from kdad.detectors.evaluation import (
    map_images,
    maps_to_measure,
    set_pixel_threshold,
    set_threshold,
    threshold_scores,
    thresholds_by_category,
)
from kdad.detectors.exported.detector import ExportedDetector
from kdad.detectors.exported.runtimes import OnnxRuntime
from kdad.detectors.exported.writing import CheckedImage, VerificationImages, export_detector, of_folder
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.detectors.predictor import Prediction
from kdad.errors import InputError
from kdad.experiments.steps import smooth_maps
from kdad.features.extraction import FeatureSet
from kdad.images.files.fitting import Region, place
from kdad.images.layouts.layout import FoundImages
from kdad.images.splits import Split
from kdad.inference.parameters import InferenceParameters
from kdad.pipelines import inference
from kdad.scoring.image_score import ImageScore
from kdad.scoring.threshold import Threshold, quantile_threshold
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of
from small_detector import fit_detector, fit_to

_SETTINGS = MkdSettings(
    source={"name": "timm:test_resnet", "weights": "random"},
    features={},
    cloner={"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 1, "batch_size": 4}},
    scoring={
        "localisation": ["discrepancy"],
        "smoothing": {"discrepancy": {}},
        "detection": {},
        "forward_map": {},
        "gradient_map": {},
    },
)


def spoil(monkeypatch, call: int, place: int, value: float, part: str) -> None:
    """Have the detector's `call`-th batch, from 0, give `value` for the image at `place`, in its map or its score."""
    real, calls = MkdDetector.maps, []

    def maps(self, *arguments, **named):
        found = real(self, *arguments, **named)
        if len(calls) == call:
            chosen = {name: values.clone() for name, values in getattr(found, part).items()}
            for values in chosen.values():
                values.reshape(len(values), -1)[place, -1] = value
            found = dataclasses.replace(found, **{part: chosen})
        calls.append(part)
        return found

    monkeypatch.setattr(MkdDetector, "maps", maps)
    monkeypatch.setattr(MkdDetector, "batch_size", lambda *_: 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["maps", "scores"])
def test_the_image_whose_map_or_score_is_not_finite_is_named_and_nothing_is_kept(
    fit, tmp_path, monkeypatch, value, part
):
    detector, seen, _ = fit(MkdDetector, _SETTINGS)
    # The 4 validation images come first, four a batch: at place 1 of the second batch is the second test image.
    spoil(monkeypatch, call=1, place=1, value=value, part=part)
    with pytest.raises(InputError, match=rf"' of {seen.split.name(seen.split.rows('test')[1])} is not finite; look at"):
        map_images(detector, seen, ["discrepancy"], ContentStore(tmp_path / "maps"))
    assert list((tmp_path / "maps").iterdir()) == []


def test_an_image_alone_is_not_called_normal_because_nothing_is_larger_than_nan(fit, monkeypatch):
    detector, _, _ = fit(MkdDetector, _SETTINGS)
    detector.calibrated(quantile_threshold(np.arange(4.0), 0.5), np.arange(4.0))
    image = np.zeros((32, 48), np.uint8)
    assert detector.predict(image).not_finite is None
    spoil(monkeypatch, call=0, place=0, value=np.nan, part="maps")
    with pytest.raises(InputError, match="of the image is not finite"):
        detector.predict(image)


@pytest.mark.parametrize(
    ("score", "anomaly_map", "said"),
    [
        (1.0, np.zeros((2, 2)), None),
        (1.0, None, None),
        (np.nan, np.zeros((2, 2)), "score"),
        (np.inf, None, "score"),
        (1.0, np.array([[0.0, np.nan]]), "map"),
        (1.0, np.array([[0.0, -np.inf]]), "map"),
    ],
)
def test_what_of_a_prediction_is_not_finite(score, anomaly_map, said):
    assert Prediction(score, 0.5, False, 0.5, anomaly_map).not_finite == said


@pytest.fixture
def scored_split():
    return Split(
        pd.DataFrame(
            {
                "id": list("abcdef"),
                "label": [0, 0, 0, 1, 0, 0],
                "kind": ["good", "good", "good", "hole", "good", "good"],
                "split": ["train", "validation", "test", "test", "validation", "validation"],
            }
        )
    )


def _decide(split: Split, rows: np.ndarray, scores: np.ndarray, quantile: float) -> tuple[pd.DataFrame, Threshold]:
    raw = pd.DataFrame({"row": rows, "loss": scores})
    return threshold_scores(SimpleNamespace(region_score=ImageScore("loss", "raw")), split, raw, {}, quantile)


def test_rows_keep_their_scores_and_the_threshold_is_of_held_out_images(scored_split):
    table, threshold = _decide(scored_split, scored_split.scored, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.9)
    assert table["id"].tolist() == ["b", "e", "f", "c", "d"]
    assert table["score"].tolist() == [1.0, 3.0, 2.0, 2.5, 9.0]
    assert threshold.value == 3.0  # the largest of 1, 2, 3: not of the test image's 9
    assert threshold.normal_images == 3
    assert table["decision"].tolist() == [0, 0, 0, 0, 1]
    assert (table["threshold"] == 3.0).all()


def test_a_score_that_is_the_threshold_is_normal(scored_split):
    table, threshold = _decide(
        scored_split, scored_split.scored, np.array([1.0, 2.0, 3.0, 3.0, np.nextafter(3.0, 4.0)]), 0.9
    )
    assert threshold.value == 3.0
    assert table["decision"].tolist() == [0, 0, 0, 0, 1]


def test_scores_of_32_bits_are_decided_on_as_they_are_written(scored_split):
    scores = np.array([0.1, 0.2, 0.3, 0.3, 0.4], dtype=np.float32)
    table, threshold = _decide(scored_split, scored_split.scored, scores, 0.9)
    assert threshold.value == float(np.float32(0.3))
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)), float_precision="round_trip")
    assert (again["score"] > again["threshold"]).astype(int).tolist() == table["decision"].tolist() == [0, 0, 0, 0, 1]


def test_a_test_image_does_not_move_the_threshold(scored_split):
    first = _decide(scored_split, scored_split.scored, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.5)[1]
    assert _decide(scored_split, scored_split.scored, np.array([1.0, 3.0, 2.0, -7.0, 1e9]), 0.5)[1] == first


def test_no_held_out_image_is_an_error(scored_split):
    with pytest.raises(InputError):
        _decide(scored_split, np.array([2, 3]), np.array([1.0, 2.0]), 0.95)


@pytest.fixture
def two_of_each() -> Split:
    """Two training, two validation and two test images."""
    return Split(
        pd.DataFrame(
            {
                "id": list("abcdef"),
                "label": [0, 0, 0, 0, 0, 1],
                "kind": ["good"] * 5 + ["hole"],
                "split": ["train", "train", "validation", "validation", "test", "test"],
            }
        )
    )


class _Scored(SimpleNamespace):
    """A detector whose score is its map's largest value; `given` is what it was calibrated with."""

    methods = ("forward",)
    region_score, region = ImageScore("forward", "map_maximum"), None

    def calibrated(self, *given):
        self.given = given
        return self

    def smoothing(self, method):
        return SimpleNamespace(gaussian_sigma=1.5)


_MAPS = {"forward": np.array([1.0, 3.0, 2.0, 5.0])[:, None, None] * np.ones((4, 2, 2))}
_RAW = pd.DataFrame({"row": [2, 3, 4, 5], "loss": [0.1, 0.2, 0.3, 0.4], "score": [9, 9, 9, 9]})


def test_scored_images_are_decided_on_and_keep_their_raw_scores(two_of_each):
    scores, threshold = threshold_scores(_Scored(), two_of_each, _RAW, _MAPS, 0.5)
    assert scores["id"].tolist() == list("cdef")
    assert scores["score"].tolist() == [1, 3, 2, 5]  # not the raw score of that name
    assert scores["loss"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert 1 <= threshold.value <= 3
    assert scores["decision"].tolist() == [int(score > threshold.value) for score in (1, 3, 2, 5)]


def test_a_detector_is_calibrated_on_held_out_images_alone(two_of_each):
    detector = _Scored()
    scores, threshold = threshold_scores(detector, two_of_each, _RAW, _MAPS, 0.5)
    assert set_threshold(detector, scores, threshold, _MAPS) is detector
    given_threshold, validation, (low, high) = detector.given
    assert isinstance(given_threshold, Threshold) and validation.tolist() == [1, 3]
    assert low == 2 and 2 < high <= 4  # of the maps of ones and threes: median 2, twice as far above as 3


def test_test_images_are_measured(two_of_each):
    (found,) = maps_to_measure(_Scored(), two_of_each, {"forward": -_MAPS["forward"]}, _MAPS).values()
    assert found.smoothed[:, 0, 0].tolist() == [2, 5]
    assert found.raw[:, 0, 0].tolist() == [-2, -5]
    assert found.gaussian_sigma == 1.5


def test_each_category_of_a_united_set_has_a_threshold_that_is_kept(tmp_path):
    detector = fit_detector(tmp_path)
    scores = pd.DataFrame({"score": np.arange(12.0), "split": "validation", "member": ["a", "b", "b"] * 4})
    scores.loc[11, "split"] = "test"
    threshold = quantile_threshold(scores["score"].to_numpy()[:11], 0.5)
    maps = {"discrepancy": np.zeros((12, *detector.size), np.float32)}
    opened = open_detector(set_threshold(detector, scores, threshold, maps).save(tmp_path / "kept"), "cpu")
    # Of "a" 0, 3, 6, 9 are held out, of "b" 1, 2, 4, 5, 7, 8, 10.
    for name, own in (("a", [0, 3, 6, 9]), ("b", [1, 2, 4, 5, 7, 8, 10])):
        chosen = opened.for_category(name)
        assert chosen.threshold == quantile_threshold(np.array(own, float), 0.5)
        assert chosen.validation_scores.tolist() == own
    assert opened.threshold == threshold
    with pytest.raises(InputError, match=r"no threshold of the category 'c'; known: a, b$"):
        opened.for_category("c")


@pytest.fixture(scope="module")
def united(tmp_path_factory):
    """A detector of two categories, one twice as dark as the other; its images, and what they were scored."""
    folder = tmp_path_factory.mktemp("united")
    images = MemoryImages()
    images.pixels[9:] /= 2
    feature_set = FeatureSet(images, Split(split_of(images).table.assign(member=["a"] * 9 + ["b"] * 9)), {})
    detector, feature_set = fit_to(feature_set, folder)
    raw = map_images(detector, feature_set, detector.methods, ContentStore(folder / "cases"))
    smoothed = smooth_maps(detector, feature_set, raw.stacks)
    scores, threshold = threshold_scores(detector, feature_set.split, raw.scores, smoothed, 0.5)
    set_threshold(detector, scores, threshold, smoothed)
    return detector, images, scores


def test_scores_of_a_category_are_by_its_own_moments(united, tmp_path):
    detector, images, scores = united
    assert detector.categories == ["a", "b"]
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu")
    for row in scores.itertuples():
        image = torch.from_numpy(images.image(int(row.id.removeprefix("image")))[None])
        (common,) = opened.predict_batch(image)
        (own,) = opened.for_category(row.member).predict_batch(image)
        assert common.score == pytest.approx(row.score, rel=1e-4, abs=1e-5)
        assert own.score == pytest.approx(row.category_score, rel=1e-4, abs=1e-5)
        assert own.decision == (own.score > detector.by_category[row.member].threshold.value)
    assert (scores["score"] != scores["category_score"]).all()
    held_out = scores[(scores["split"] == "validation") & (scores["member"] == "b")]
    assert detector.by_category["b"].validation_scores == sorted(held_out["category_score"])


@pytest.mark.long
def test_an_exported_file_scores_each_category_by_its_own_moments(united, tmp_path):
    detector, images, scores = united
    pixels = {
        f"image{row:02d}": np.rint(255 * images.image(row)).astype(np.uint8).transpose(1, 2, 0) for row in range(18)
    }
    rows = [(row.label, row.split == "validation", row.member) for row in scores.itertuples()]
    checked = VerificationImages(
        [
            CheckedImage(partial(pixels.get, name), label, is_validation, category=member)
            for name, (label, is_validation, member) in zip(scores["id"], rows, strict=True)
        ],
        "of the run",
    )
    files = {
        made_in: ExportedDetector(facts, OnnxRuntime(model, tmp_path, "float32"), tmp_path)
        for made_in in ("float32", "bfloat16")
        for facts, model in [export_detector(detector, made_in, checked, "onnxruntime", "float32")]
    }
    assert files["float32"].by_category == detector.by_category
    for one in checked.images:
        exact = detector.for_category(one.category).predict(one.pixels())
        for made_in, file in files.items():
            own = file.for_category(one.category)
            found = own.predict(one.pixels())
            assert found.score == pytest.approx(exact.score, rel=1e-3, abs=1e-3)
            assert own.threshold.value == pytest.approx(exact.threshold, rel=1e-2, abs=1e-2), made_in
        assert file.predict(one.pixels()).score == pytest.approx(
            detector.predict(one.pixels()).score, rel=1e-3, abs=1e-3
        )


def test_the_highest_share_is_of_the_region(tmp_path):
    detector = fit_detector(tmp_path)
    rule = detector.image_score
    assert detector.region_score == rule
    detector.preparation = dataclasses.replace(detector.preparation, region=Region.of(np.indices(detector.size)[0] < 8))
    assert detector.region_score == dataclasses.replace(rule, top_fraction=rule.top_fraction * 8 / 32)
    tiles = dataclasses.replace(detector.preparation, in_tiles=True)
    detector.preparation = tiles  # the region is of what tiles are parts of, each of which has another
    assert detector.region_score == rule
    assert open_detector(detector.save(tmp_path / "kept"), "cpu").preparation == tiles
    with pytest.raises(InputError, match=r"has learnt tiles of a region, so that it predicts by tiles alone"):
        detector.predict(np.zeros((*detector.size, 3), np.uint8))
    with pytest.raises(InputError, match="predicts by tiles alone"):
        inference._by_tiles(detector, InferenceParameters())
    with pytest.raises(InputError, match="has learnt tiles of a region is not exported"):
        export_detector(detector, "float32", of_folder(FoundImages(tmp_path, [], [])), "onnxruntime", "float32")


def test_with_groups_the_threshold_is_of_their_highest_images(scored_split):
    grouped = Split(scored_split.table.assign(group=["x", "v1", "t1", "t2", "v2", "v1"]))
    table, threshold = _decide(grouped, grouped.scored, np.array([1.0, 2.0, 3.0, 2.5, 9.0]), 0.5)
    # Validation images b, e, f are of v1, v2, v1: highest 3 and 2, of which the second smallest is the 0.5 quantile.
    assert threshold.group_scores == [2.0, 3.0]
    assert (threshold.value, threshold.normal_images) == (3.0, 3)
    assert table["group"].tolist() == ["v1", "v2", "v1", "t1", "t2"]
    united = table.assign(member=["p", "p", "p", "p", "p"])
    assert thresholds_by_category(united, 0.5)["p"].threshold == threshold


def test_each_row_has_the_score_and_decision_of_its_group(scored_split):
    grouped = Split(scored_split.table.assign(group=["x", "v1", "t1", "t1", "v2", "v1"]))
    raw = pd.DataFrame({"row": grouped.scored, "loss": [1.0, 2.0, 3.0, 2.5, 9.0]})
    detector = SimpleNamespace(region_score=ImageScore("loss", "raw"))
    # Of v1 1 and 3, of v2 2, of t1 2.5 and 9; the second smallest group is the threshold.
    for how, scores, value in (("max", [3, 2, 3, 9, 9], 3.0), ("mean", [2, 2, 2, 5.75, 5.75], 2.0)):
        table, threshold = threshold_scores(detector, grouped, raw, {}, 0.5, how)
        assert table["group_score"].tolist() == scores
        assert (threshold.group_value, table["group_decision"].tolist()) == (value, [0, 0, 0, 1, 1])
    assert "group_score" not in threshold_scores(detector, grouped, raw, {}, 0.5)[0]
    assert "group_score" not in threshold_scores(detector, scored_split, raw, {}, 0.5, "max")[0]


def test_the_pixel_threshold_is_of_validation_maps_and_marks_regions_in_the_images_own_pixels(tmp_path):
    detector, images = fit_detector(tmp_path), MemoryImages()
    feature_set = FeatureSet(images, split_of(images), {})
    held_out = len(feature_set.split.rows("validation"))
    maps = np.random.default_rng(0).random((len(feature_set.split.scored), *detector.size)).astype(np.float32)
    set_pixel_threshold(detector, feature_set, {"discrepancy": maps}, 0.5, 1)
    highest = np.sort(maps[:held_out].max(axis=(1, 2)))
    found = detector.pixel_threshold
    assert found.threshold == quantile_threshold(highest.astype(float), 0.5)
    assert (found.validation_scores, found.min_area) == (highest.tolist(), 1)
    detector.calibrated(found.threshold, highest)
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu")
    assert opened.pixel_threshold == found
    height, width = opened.size
    marked = np.zeros((height, width), np.float32)
    marked[4:6, 8:11] = 2.0
    marked[20, 30] = 2.0
    prediction = Prediction(1.0, 0.5, True, 1.0, marked)
    placed = place((2 * height, 3 * width), opened.size, "resize")
    first, second = opened.regions(prediction, placed)
    assert (first.box, first.area) == ((24, 8, 33, 12), 36)
    assert (second.box, second.area) == ((90, 40, 93, 42), 6)
    opened.pixel_threshold = found.model_copy(update={"min_area": 7})
    assert opened.regions(prediction, placed) == [first]
    # Outside of a region nothing is marked.
    outside = Region.of(np.indices((2 * height, 3 * width))[0] >= 2 * 12)
    opened.preparation = dataclasses.replace(opened.preparation, region=outside)
    opened.pixel_threshold = found
    assert opened.regions(prediction, placed) == [second]
    opened.pixel_threshold = None
    assert opened.regions(prediction, placed) is None
