"""Rules tried on drawn defects, against detectors that are normalised by the other half of the held-out images."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.drawn_trial import DrawnTrial
from kdad.detectors.mkd.paired_gains import found_shares, ranking_wins
from kdad.features.seen import SeenImages
from kdad.images.splits import Split
from kdad.scoring.smoothing import smooth
from memory_images import MemoryImages, split_of

#: 8 train, 10 are held out, 2 are tested.
PARTS = ["train"] * 8 + ["validation"] * 10 + ["test"] * 2
RULES = {
    "position": {"score": "map_top_mean", "points": "last 2", "top_fraction": 0.05},
    "validation": {"score": "map_maximum", "normalisation": "validation", "weighting": "equal"},
    "both": {"score": "both_maps_top_mean", "points": "last 3"},
    "total": {"score": "total_loss", "points": "last 2"},
}


@pytest.fixture
def held_out_images() -> MemoryImages:
    return MemoryImages(parts=PARTS)


def trial_of(detector: MkdDetector, seen: SeenImages, seed: int = 0) -> DrawnTrial:
    names = [point.name for point in detector.points]
    with torch.no_grad():
        return DrawnTrial(detector.settings.scoring, seen, detector._discrepancies, names, seed)


def judged_by(detector: MkdDetector, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a detector's scores and finished forward maps of images."""
    raw = detector.maps(torch.from_numpy(images), None, ["discrepancy", *detector.image_score.map_names])
    maps = {name: smooth(found, detector.smoothing(name)) for name, found in raw.maps.items()}
    return detector.image_score.of_images(raw.scores, maps), maps["discrepancy"]


@pytest.fixture
def drawings(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """What every trial draws from now on: images and masks."""
    found, draw = [], DrawnTrial._draw
    monkeypatch.setattr(DrawnTrial, "_draw", lambda *given: found.append(draw(*given)) or found[-1])
    return found


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_judged_on_a_half_as_by_a_detector_that_measured_on_the_other(
    fit, settings, held_out_images, drawings, rule
):
    rules = {
        "detection": RULES[rule],
        "forward_map": {"points": "first 2", "normalisation": "validation"},
        "choosing": {"drawn_images": 18},
        "smoothing": {"discrepancy": {"gaussian_sigma": 1.5}},
    }
    detector, seen, _ = fit(MkdDetector, settings(**rules), images=held_out_images)
    trial = trial_of(detector, seen)
    drawn, masks = drawings[-1]
    scoring = detector.settings.scoring
    wins, shares = trial.rank(scoring.detection, scoring.forward_map), trial.localise(scoring.forward_map)
    base, half = trial.sample.base, trial.sample.half
    plain = rows_of(trial, drawn, held_out_images)
    for judged in (0, 1):
        table = split_of(held_out_images).table.copy()
        table.loc[plain[half == judged], "split"] = "left_out"
        other, _, _ = fit(MkdDetector, settings(**rules), images=held_out_images, split=Split(table))
        own = half[base] == judged
        drawn_scores, maps = judged_by(other, drawn[own])
        plain_scores, normal = judged_by(other, held_out_images.pixels[plain[half == judged]])
        np.testing.assert_array_equal(wins[np.ix_(own, half == judged)], ranking_wins(drawn_scores, plain_scores))
        np.testing.assert_allclose(shares[own], found_shares(maps, masks[own], normal), atol=0.02)


def rows_of(trial: DrawnTrial, drawn: np.ndarray, images: MemoryImages) -> np.ndarray:
    """Return the row of each plain image: the held-out one that a drawn copy is most like."""
    rows = np.flatnonzero(np.array(PARTS) == "validation")
    found = np.empty(trial.sample.images, dtype=int)
    for number, base in enumerate(trial.sample.base):
        distances = [np.abs(drawn[number] - images.pixels[row]).mean() for row in rows]
        found[base] = rows[int(np.argmin(distances))]
    assert len(set(found)) == trial.sample.images
    return found


def test_copies_are_of_all_kinds_and_images_and_have_their_masks(fit, settings, held_out_images, drawings):
    detector, seen, _ = fit(MkdDetector, settings(choosing={"drawn_images": 36}), images=held_out_images)
    trial = trial_of(detector, seen)
    assert np.bincount(trial.sample.kind).tolist() == [4] * 9
    assert set(np.bincount(trial.sample.base)) <= {3, 4}
    assert np.bincount(trial.sample.half).tolist() == [5, 5]
    assert trial.masks.any(axis=(1, 2)).all()
    again = trial_of(detector, seen)
    np.testing.assert_array_equal(drawings[0][0], drawings[1][0])
    np.testing.assert_array_equal(again.sample.kind, trial.sample.kind)
    trial_of(detector, seen, seed=1)
    assert not np.array_equal(drawings[2][0], drawings[0][0])


def test_no_test_image_is_looked_at(fit, settings, held_out_images, monkeypatch):
    detector, seen, _ = fit(MkdDetector, settings(choosing={"drawn_images": 18}), images=held_out_images)
    looked = []
    batch = SeenImages.batch
    monkeypatch.setattr(SeenImages, "batch", lambda self, rows: looked.extend(map(int, rows)) or batch(self, rows))
    trial_of(detector, seen)
    assert sorted(set(looked)) == list(range(18))  # of 8 training and 10 held-out images


def test_maps_are_smoothed_as_they_are_shown(fit, settings, held_out_images, monkeypatch):
    scoring = {"smoothing": {"discrepancy": {"gaussian_sigma": 3.0}}, "choosing": {"drawn_images": 9}}
    detector, seen, _ = fit(MkdDetector, settings(**scoring), images=held_out_images)
    trial = trial_of(detector, seen)
    rule = detector.settings.scoring.forward_map
    smoothed = trial._map(rule, 0, trial._plain)
    monkeypatch.setattr("kdad.detectors.mkd.drawn_trial.smooth", lambda maps, steps: maps)
    plain = trial._map(rule, 0, trial._plain)
    np.testing.assert_allclose(smoothed, gaussian_filter(plain, (0, 3, 3)), rtol=1e-5)
