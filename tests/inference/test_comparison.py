"""Two detectors on the same files: what each says of them, who is right, and which files say nothing."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import kdad.detectors
from exported_detectors import coloured_noise
from kdad.detectors.predictor import FilePrediction, Prediction, Predictor
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError
from kdad.images.files import decoding
from kdad.images.files.fitting import Preparation, Region
from kdad.images.files.value_range import ValueRange
from kdad.images.folder import hash_file
from kdad.images.layouts.layout import look_for_images
from kdad.images.tiling import Tiling
from kdad.inference import comparison
from kdad.inference.comparison import (
    choose_predictors,
    find_seen,
    margin_units,
    measure_comparison,
    predict_both,
    table_row,
)
from kdad.inference.description import new_tiled
from kdad.inference.parameters import ComparisonParameters
from kdad.parameters.blocks import ComputeParameters
from kdad.pipelines.detector_comparison import compare_detectors
from kdad.scoring.threshold import Calibration, quantile_threshold


class Brightness(Predictor):
    """Scores an image by its mean, times a factor."""

    system, methods = "brightness", ["brightness"]

    def __init__(self, size: tuple[int, int], factor: float = 1.0) -> None:
        super().__init__()
        self.size, self._factor = size, factor
        scores = np.linspace(0, 1, 5)
        self.calibrated(quantile_threshold(scores, 0.5), scores)

    def score_and_show(self, images: torch.Tensor, outputs=None) -> tuple[np.ndarray, np.ndarray]:
        maps = self._factor * images.mean(1).numpy()
        return maps.mean((1, 2)), maps


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten grey images, darker to brighter, the third of them torn."""
    for number in range(10):
        path = tmp_path / f"{'good' if number < 6 else 'bright'}/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (6, 4), 25 * number).save(path)
    (tmp_path / "good/2.png").write_bytes(b"\x89PNG")
    return tmp_path


def test_each_file_is_decoded_once_and_predicted_as_by_each_detector_alone(folder, monkeypatch):
    decoded = Counter()

    def count(path, bands=None):
        decoded[path] += 1
        return decoding.decode_raw(path, bands)

    detectors = Brightness((4, 6)), Brightness((2, 2), 3.0)
    detectors[1].preparation = Preparation("letterbox", ValueRange(kind="8-bit", low=0, high=510))
    paths = look_for_images(folder).paths
    monkeypatch.setattr(comparison, "decode_raw", count)
    found = list(predict_both(detectors, paths))
    torn = folder / "good/2.png"
    assert {path: count for path, count in decoded.items() if path != torn} == dict.fromkeys({*paths} - {torn}, 1)
    for detector, own in zip(detectors, zip(*found, strict=True), strict=True):
        for one, alone in zip(own, detector.predict_files(paths), strict=True):
            assert (one.path, one.problem) == (alone.path, alone.problem)
            assert (one.prediction and one.prediction.score) == (alone.prediction and alone.prediction.score)
    brightest = found[paths.index(folder / "bright/9.png")]
    assert [one.prediction.score for one in brightest] == pytest.approx([225 / 255, 3 * 225 / 510])


def test_an_image_of_another_size_than_ones_region_says_nothing_of_both(folder):
    detectors = Brightness((4, 6)), Brightness((4, 6))
    detectors[1].preparation = Preparation(region=Region.of(np.ones((4, 6), dtype=bool)))
    Image.new("L", (12, 8), 90).save(folder / "good/7.png")
    paths = look_for_images(folder).paths
    pair = list(predict_both(detectors, paths))[paths.index(folder / "good/7.png")]
    assert pair[0].problem is None
    assert "7.png: is 8 x 12, and the region that counts 4 x 6" in pair[1].problem


def test_images_that_either_has_seen_are_told_and_not_counted(folder):
    detectors, images = (Brightness((4, 6)), Brightness((4, 6))), look_for_images(folder)
    digests = {number: hash_file(folder / f"good/{number}.png") for number in (0, 1, 3)}
    assert find_seen(images, detectors) == [None] * 10
    detectors[0].record = {"seen": f"{digests[0]} {digests[1]}"}
    detectors[1].record = {"seen": f"{digests[1]} {digests[3]}"}
    by_stem = dict(zip([path.stem for path in images.paths], find_seen(images, detectors), strict=True))
    assert {stem: by for stem, by in by_stem.items() if by} == {"0": "A", "1": "A, B", "3": "B"}
    detectors[1].digest = "b"
    table, page, metrics = compare_detectors(detectors, images, ComparisonParameters(), ComputeParameters())
    assert len(table) == 10 and page.count("seen by A, B, not counted") == 1
    assert (metrics["images"], metrics["seen"], metrics["seen_by_a"], metrics["seen_by_b"]) == (6, 3, 2, 2)
    detectors[0].record = {"seen": " ".join(hash_file(path) for path in images.paths)}
    _, page, metrics = compare_detectors(detectors, images, ComparisonParameters(), ComputeParameters())
    assert "0 of 0 new images are decided differently." in page and metrics["labelled"] == 0


def test_margins_are_in_units_of_a_threshold_above_the_median_of_normal_scores():
    detectors = Brightness((4, 6)), Brightness((4, 6))
    for detector, scores, threshold in zip(detectors, ([1.0, 2.0, 9.0], [-5.0, -4.0]), (4.0, -3.5), strict=True):
        detector.calibrated(detector.threshold.model_copy(update={"value": threshold}), np.array(scores))
    assert margin_units(detectors) == [{4.0: 2.0}, {-3.5: 1.0}]
    detectors[1].calibrated(detectors[1].threshold, np.array([-3.0]))  # normal images above the threshold
    assert margin_units(detectors) is None
    detectors[1].calibrated(detectors[1].threshold, np.empty(0))
    assert margin_units(detectors) is None


def prediction(score: float, threshold: float) -> FilePrediction:
    return FilePrediction(Path("x"), None, Prediction(score, threshold, score > threshold, 0.5, None), 1.0)


def test_a_row_holds_scores_margins_and_decisions_of_both():
    row = table_row("a\nb.png", 1, (prediction(5.0, 3.0), prediction(-2.0, -1.0)), ({3.0: 4.0}, {-1.0: 0.5}))
    assert row == {
        "path": "a\ufffdb.png",
        "label": 1,
        "seen": None,
        "problem": None,
        "score_a": 5.0,
        "margin_a": 0.5,
        "decision_a": 1,
        "score_b": -2.0,
        "margin_b": -2.0,
        "decision_b": 0,
    }


def test_a_file_that_one_of_them_cannot_predict_says_nothing_of_both():
    unread = FilePrediction(Path("x"), None, None, 1.0, "'x' is cut short")
    for pair in ((prediction(5.0, 3.0), unread), (unread, unread)):
        row = table_row("x", None, pair, None)
        assert row["problem"] == "'x' is cut short"
        assert row["score_a"] is None and row["decision_b"] is None


def test_a_category_decides_by_its_own_threshold_of_both():
    detectors = Brightness((4, 6)), Brightness((4, 6))
    for detector, value in zip(detectors, (0.2, 0.7), strict=True):
        scores = np.array([0.1, value])
        detector.by_category = {"dim": Calibration.of(quantile_threshold(scores, 0.9), scores)}
    asked = ComparisonParameters(category="dim")
    assert [one.threshold.value for one in choose_predictors(detectors, asked)] == [0.2, 0.7]
    assert [one.threshold.value for one in choose_predictors(detectors, ComparisonParameters())] == [0.5, 0.5]
    detectors[1].by_category = {"dam": detectors[1].by_category["dim"]}
    with pytest.raises(InputError, match=r"^B of comparison.detectors: .* category 'dim'; did you mean 'dam'"):
        choose_predictors(detectors, asked)
    with pytest.raises(ValidationError, match="a threshold for tiles is of all categories"):
        ComparisonParameters(category="dim", tiles={"size": 32})


def test_both_predict_by_tiles_and_say_so(tmp_path, detector_folder):
    """Margins of a large image are by the tiles' threshold, those of one that a tile holds by the detector's own."""
    detectors = [kdad.detectors.load(detector_folder) for _ in range(2)]
    for name, size in (("large", (120, 80)), ("small", (48, 32))):
        Image.fromarray(coloured_noise(*size[::-1])).save(tmp_path / f"{name}.png")
    asked, images = ComparisonParameters(tiles={"size": 48}), look_for_images(tmp_path)
    tiling = Tiling.of(asked.tiles, detectors[0].size)
    for detector, value, name in zip(detectors, (-50.0, 1000.0), "ab", strict=True):
        threshold = detector.threshold.model_copy(update={"value": value})
        detector.tiled, detector.digest = [new_tiled(tiling, threshold, np.array([value - 4]), images)], name
    table, page, metrics = compare_detectors(detectors, images, asked, ComputeParameters())
    large, small = table.to_dict("records")
    alone = [TiledPredictor(one, one.tiled[0]).predict(tmp_path / "large.png") for one in detectors]
    for name, value, expected in zip("ab", (-50.0, 1000.0), alone, strict=True):
        assert large[f"score_{name}"] == pytest.approx(expected.score)
        assert large[f"margin_{name}"] == pytest.approx((expected.score - value) / 4)
        assert metrics[name]["threshold"] == value
        assert small[f"decision_{name}"] == (small[f"score_{name}"] > detectors[0].threshold.value)
    assert small["margin_a"] == small["margin_b"]
    assert "1 predicted whole" in page and "Tiles&#39; threshold B" in page
    detectors[1].tiled = []
    with pytest.raises(InputError, match=r"^B of comparison.detectors: the detector has no threshold for tiles"):
        choose_predictors(detectors, asked)


def test_what_is_counted_of_a_table():
    rows = [  # label, decisions of A and B
        *[(0, 0, 0)] * 3,
        *[(0, 1, 0)] * 4,  # a false alarm of A
        (1, 0, 0),
        *[(1, 0, 1)] * 2,  # missed by A
        (1, 1, 0),  # missed by B
        (None, 1, 0),
    ]
    table = pd.DataFrame(rows, columns=["label", "decision_a", "decision_b"]).astype("Int64")
    table = table.assign(problem=None, seen=pd.array([None] * len(table), dtype="string"))
    table.loc[len(table)] = [None, None, None, "cut short", None]
    table.loc[len(table)] = [0, 1, 0, None, "B"]
    found = measure_comparison(table)
    # 6 images are right by B alone, 1 by A alone: p = 2 (1 + 7) / 2 ** 7.
    assert found == {
        "images": 12,
        "unreadable": 1,
        "seen": 1,
        "seen_by_a": 0,
        "seen_by_b": 1,
        "flips": 8,
        "labelled": 11,
        "only_a_is_right": 1,
        "only_b_is_right": 6,
        "mcnemar_p_value": pytest.approx(0.125),
        "a": {"anomalous": 6, "false_alarms": 4, "missed": 3},
        "b": {"anomalous": 2, "false_alarms": 0, "missed": 2},
    }
    unlabelled = measure_comparison(table.assign(label=pd.array([None] * len(table), dtype="Int64")))
    assert (unlabelled["flips"], unlabelled["labelled"], unlabelled["mcnemar_p_value"]) == (8, 0, None)
    assert unlabelled["a"] == {"anomalous": 6, "false_alarms": None, "missed": None}
