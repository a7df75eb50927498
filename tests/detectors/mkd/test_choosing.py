"""When a candidate takes the fixed rule's place, and that the detector that is kept judges by it."""

import logging
from functools import partial

import numpy as np
import pytest
import torch

from kdad.detectors import load
from kdad.detectors.mkd import choosing
from kdad.detectors.mkd.choosing import choose_rules
from kdad.detectors.mkd.cloner import Cloner
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.paired_gains import DrawnSample
from kdad.detectors.mkd.rule_choice import RuleChoice
from kdad.errors import InputError
from kdad.scoring.threshold import quantile_threshold
from memory_images import MemoryImages

#: 8 train, 10 are held out, 2 are tested.
PARTS = ["train"] * 8 + ["validation"] * 10 + ["test"] * 2
CANDIDATES = {
    "detection": {"good": {"points": "last 1"}, "better": {"points": "last 2"}, "unsure": {"points": "first 1"}},
    "forward_map": {"good": {"points": "last 1"}},
}


class RankedTrial:
    """Sixty drawn defects that rules find as well as their points are good."""

    #: By points, of maps and of scores; 'first 1' finds one kind of defect alone.
    QUALITY = {"last 1": 0.6, "last 2": 0.65, "all": 0.5, "last 3": 0.5, "first 3": 0.5}

    def __init__(self, *given):
        count = 63
        self.sample = DrawnSample(np.arange(count) % 9, np.arange(count) // 7, np.arange(9) % 2)
        self.masks = np.ones((count, 1, 1), dtype=bool)
        self.shown = []

    def localise(self, rule):
        if rule.points == "first 1":
            return 0.5 + 0.45 * (self.sample.kind == 3)
        return np.full(63, self.QUALITY[rule.points])

    def rank(self, rule, shown):
        self.shown.append(shown.points)
        return np.repeat(self.localise(rule)[:, None], 9, axis=1)


@pytest.fixture
def trials(monkeypatch):
    """Trials whose outcome is known, and those that were made."""
    made = []
    monkeypatch.setattr(choosing, "DrawnTrial", lambda *given: made.append(RankedTrial()) or made[-1])
    return made


def choose(settings, seen, **given) -> RuleChoice:
    scoring = settings(choose="drawn_defects", **{"choosing": {"candidates": CANDIDATES}} | given).scoring
    return choose_rules(scoring, seen, None, ["stage1"], 0)


@pytest.fixture
def seen(prepare, settings):
    return prepare(MkdDetector, settings(), images=MemoryImages(parts=PARTS)).seen


def test_the_best_of_those_that_are_surely_better_is_chosen(settings, seen, trials):
    found = choose(settings, seen)
    assert found.detection.points == "last 2"
    assert found.forward_map.points == "last 1"
    assert [(one.block, one.rule, one.chosen) for one in found.tried] == [
        ("detection", "fixed", False),
        ("detection", "good", False),
        ("detection", "better", True),
        ("detection", "unsure", False),
        ("forward_map", "fixed", False),
        ("forward_map", "good", True),
    ]
    figures = {(one.block, one.rule): (one.figure, one.gain, one.why) for one in found.tried}
    assert figures["detection", "better"][:2] == pytest.approx((0.65, 0.15))
    assert figures["detection", "unsure"][:2] == pytest.approx((0.55, 0.05), abs=1e-3)
    assert figures["detection", "unsure"][2] == "the gain is not sure"
    assert figures["detection", "good"][2] == "surely better, but not the best"


def test_scores_are_ranked_with_the_map_that_was_chosen(settings, seen, trials):
    choose(settings, seen)
    assert set(trials[0].shown) == {"last 1"}


def test_less_than_the_margin_changes_nothing(settings, seen, trials, caplog):
    with caplog.at_level(logging.INFO):
        found = choose(settings, seen, choosing={"candidates": CANDIDATES, "margin": 0.16})
    assert found.detection is None
    assert found.forward_map is None
    assert [one.rule for one in found.tried if one.chosen] == ["fixed", "fixed"]
    assert found.tried[2].why == "gains less than 0.16"
    assert "scoring.detection: the fixed rule stays; image AUROC of 63 drawn defects" in caplog.text


def test_one_line_says_what_was_chosen_and_why(settings, seen, trials, caplog):
    with caplog.at_level(logging.INFO):
        choose(settings, seen)
    (line,) = [record.getMessage() for record in caplog.records if "scoring.detection" in record.getMessage()]
    assert line == (
        "scoring.detection: 'better' takes the fixed rule's place; image AUROC of 63 drawn defects, 9 held-out images: "
        "0.5000 fixed, 0.6500 'better' (gains at least +0.1500)"
    )


def test_few_held_out_images_choose_nothing(settings, prepare, caplog):
    seen = prepare(MkdDetector, settings()).seen  # four are held out
    with caplog.at_level(logging.WARNING):
        assert choose(settings, seen) == RuleChoice()
    assert "4 held-out images are too few to choose rules by drawn defects, which takes 8" in caplog.text


def test_chosen_rules_are_kept_and_not_chosen_again(fit, settings, trials, tmp_path, monkeypatch):
    scoring = {"choose": "drawn_defects", "choosing": {"candidates": CANDIDATES}}
    images = MemoryImages(parts=PARTS)
    detector, seen, _ = fit(MkdDetector, settings(**scoring), images=images)
    plain = {"detection": {"points": "last 2"}, "forward_map": {"points": "last 1"}}
    named, _, _ = fit(MkdDetector, settings(**plain), images=images)
    for made in (detector, named):
        made.calibrated(quantile_threshold(np.arange(20.0), 0.95), np.arange(20.0))
    assert detector.raw_key(["discrepancy"], seen) == named.raw_key(["discrepancy"], seen)
    kept = detector.save(tmp_path / "kept")
    monkeypatch.setattr("kdad.detectors.mkd.detector.choose_rules", pytest.fail)
    opened = load(kept)
    assert opened.choice == detector.choice
    assert opened.tried_rules == [one.model_dump() for one in detector.choice.tried]
    assert opened.settings.scoring.choose == "none"
    batch = torch.from_numpy(images.pixels)
    expected = named.judge_batch(batch)
    for found in (detector.judge_batch(batch), opened.judge_batch(batch)):
        np.testing.assert_array_equal([one.score for one in found], [one.score for one in expected])
        np.testing.assert_array_equal([one.map for one in found], [one.map for one in expected])


def test_raw_maps_of_another_choice_have_another_key(fit, settings, trials, monkeypatch):
    scoring = {"choose": "drawn_defects", "choosing": {"candidates": CANDIDATES}}
    images = MemoryImages(parts=PARTS)
    first, seen, _ = fit(MkdDetector, settings(**scoring), images=images)
    monkeypatch.setitem(RankedTrial.QUALITY, "last 1", 0.4)
    second, _, _ = fit(MkdDetector, settings(**scoring), images=images)
    assert first.key == second.key  # the cloner is the same
    assert first.raw_key(["discrepancy"], seen) != second.raw_key(["discrepancy"], seen)


def test_of_real_trials_equal_rules_are_none_better_and_the_same_seed_gives_the_same(fit, settings):
    candidates = {"detection": {"same": {}, "other": {"points": "first 1"}}, "forward_map": {"same": {}}}
    scoring = {"choose": "drawn_defects", "choosing": {"candidates": candidates, "drawn_images": 18}}
    images = MemoryImages(parts=PARTS)
    first, again = (fit(MkdDetector, settings(**scoring), images=images).detector for _ in range(2))
    assert first.choice == again.choice
    tried = {(one.block, one.rule): one for one in first.choice.tried}
    for block in ("detection", "forward_map"):
        assert tried[block, "same"].figure == tried[block, "fixed"].figure
        assert not tried[block, "same"].chosen
    assert 0 < tried["detection", "fixed"].figure <= 1


def test_a_candidate_with_an_unknown_point_is_named(prepare, settings):
    candidates = {"forward_map": {"odd": {"points": ["stage9"]}}}
    wrong = settings(choose="drawn_defects", choosing={"candidates": candidates})
    with pytest.raises(InputError, match=r"scoring\.choosing\.candidates\.forward_map\.odd\.points"):
        prepare(MkdDetector, wrong)


def test_a_session_without_a_choice_tries_nothing(fit, settings, monkeypatch):
    monkeypatch.setattr("kdad.detectors.mkd.detector.choose_rules", partial(pytest.fail, "it was called"))
    detector, _, _ = fit(MkdDetector, settings(choosing={"candidates": CANDIDATES}))
    assert detector.tried_rules == []
    assert detector.learnt_facts()["choice"] is None


def test_drawn_and_plain_images_reach_the_cloner_as_the_device_has_them(settings, fit, monkeypatch):
    formats = []
    original = Cloner.forward

    def forward(cloner, images):
        formats.append(images.is_contiguous(memory_format=torch.channels_last))
        return original(cloner, images)

    monkeypatch.setattr(Cloner, "forward", forward)
    choosing = {"drawn_images": 9, "candidates": CANDIDATES}
    made = fit(MkdDetector, settings(choose="drawn_defects", choosing=choosing), images=MemoryImages(parts=PARTS))
    assert made.detector.choice.tried and all(formats)
