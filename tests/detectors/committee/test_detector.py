"""A committee against its members made alone: what is summed, what is shared, and what is kept."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.committee.detector import CommitteeDetector
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.stfpm.detector import StfpmDetector
from kdad.errors import InputError
from kdad.features.network import FrozenNetwork
from kdad.images.splits import Split
from kdad.scoring.smoothing import smooth

MEMBERS = ("mkd", "position_gaussian", "stfpm")
KINDS = {"mkd": MkdDetector, "position_gaussian": BaselineDetector, "stfpm": StfpmDetector}


def finished(detector, images) -> tuple[np.ndarray, np.ndarray]:
    """Return a member's scores and the map that it shows, smoothed, as if it were alone."""
    raw = detector.maps(images, None, detector.needed_methods)
    maps = {name: smooth(found, detector.smoothing(name)) for name, found in raw.maps.items()}
    return detector.image_score.of_images(raw.scores, maps), maps[detector.methods[0]]


def evened(detector, maps) -> np.ndarray:
    """Return the logarithms of distances, and other maps as they are."""
    return np.log(maps) if isinstance(detector, BaselineDetector) else maps


@pytest.fixture
def alone(fit, settings):
    """Each member, fitted alone by the settings that it has in the committee."""
    return {name: fit(KINDS[name], own) for name, own in settings(*MEMBERS).of_members.items()}


def test_finished_maps_and_scores_are_standardised_by_held_out_images_and_summed(fit, settings, alone):
    made = fit(CommitteeDetector, settings(*MEMBERS, committee={"weighting": "equal"}))
    held_out, test = (made.seen.batch(made.seen.split.rows(part)) for part in ("validation", "test"))
    scores, maps = {}, {}
    for name, member in alone.items():
        known, new = (
            (found, evened(member.detector, shown))
            for found, shown in (finished(member.detector, images) for images in (held_out, test))
        )
        scores[name], maps[name] = (
            (found - usual.astype(np.float64).mean()) / usual.astype(np.float64).std()
            for usual, found in zip(known, new, strict=True)
        )
    found = made.detector.maps(test, None, made.detector.methods)
    assert list(found.maps) == ["sum", *MEMBERS]
    assert list(found.scores) == ["sum_score", *(f"{name}_score" for name in MEMBERS)]
    for name in MEMBERS:
        np.testing.assert_allclose(found.maps[name], maps[name], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.scores[f"{name}_score"], scores[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.maps["sum"], sum(maps.values()), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.scores["sum_score"], sum(scores.values()), rtol=1e-4, atol=1e-4)


def test_members_count_for_less_the_better_they_judge_training_images(fit, settings, alone):
    made = fit(CommitteeDetector, settings(*MEMBERS))
    training, held_out, test = (made.seen.batch(made.seen.split.rows(part)) for part in ("train", "validation", "test"))
    ratios = {
        name: float(np.mean(finished(member.detector, held_out)[1]) / np.mean(finished(member.detector, training)[1]))
        for name, member in alone.items()
    }
    assert max(ratios.values()) > 1.001 * min(ratios.values())
    least = max(min(ratios.values()), 1)
    expected = {name: (least / max(ratio, 1)) ** 12 for name, ratio in ratios.items()}
    assert made.detector.weights == pytest.approx(expected, rel=1e-2)
    found = made.detector.maps(test, None, made.detector.methods)
    weights = made.detector.weights
    weighed = {name: weights[name] * found.maps[name].astype(np.float64) for name in MEMBERS}
    np.testing.assert_allclose(found.maps["sum"], sum(weighed.values()), rtol=1e-4, atol=1e-4)
    scores = sum(weights[name] * found.scores[f"{name}_score"].astype(np.float64) for name in MEMBERS)
    np.testing.assert_allclose(found.scores["sum_score"], scores, rtol=1e-4, atol=1e-4)


def test_nothing_is_smoothed_after_the_sum_and_judging_takes_its_score(fit, settings):
    detector = fit(CommitteeDetector, settings("mkd", "position_gaussian")).detector
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    scores, maps = detector.score_and_map(images)
    raw = detector.maps(images)
    np.testing.assert_array_equal(maps["sum"], raw.maps["sum"])
    np.testing.assert_array_equal(scores, raw.scores["sum_score"])
    assert list(maps) == ["sum"]


def test_the_source_runs_once_over_an_image_for_all_members_and_never_over_known_ones(fit, settings, monkeypatch):
    made = fit(CommitteeDetector, settings(*MEMBERS))
    rows, passes, outputs = made.seen.split.rows("test"), Counter(), FrozenNetwork.outputs

    def counting(network, images):
        passes["images"] += len(images)
        return outputs(network, images)

    monkeypatch.setattr(FrozenNetwork, "outputs", counting)
    made.detector.maps(made.seen.batch(rows), made.seen.outputs(rows))
    assert not passes
    made.detector.maps(made.seen.batch(rows))
    assert passes == {"images": len(rows)}


def test_members_that_were_trained_alone_are_found_and_have_the_same_keys(fit, settings, alone):
    made = fit(CommitteeDetector, settings("stfpm", "mkd"))
    assert made.fitting.reused
    assert {name: member.key for name, member in made.detector.members.items()} == {
        name: alone[name].detector.key for name in ("stfpm", "mkd")
    }
    third = fit(CommitteeDetector, settings("position_gaussian"))
    assert third.detector.members["position_gaussian"].key == alone["position_gaussian"].detector.key
    assert len({made.detector.key, third.detector.key, alone["mkd"].detector.key}) == 3


def test_losses_are_those_of_the_members_that_train(fit, settings):
    found = fit(CommitteeDetector, settings(*MEMBERS)).fitting.history
    assert {term.split(".")[0] for term in found["term"]} == {"mkd", "stfpm"}
    assert fit(CommitteeDetector, settings("position_gaussian")).fitting.history is None


def test_a_single_member_ranks_as_it_does_alone(fit, settings, alone):
    made = fit(CommitteeDetector, settings("mkd"))
    images = made.seen.batch(made.seen.split.scored)
    scores, shown = finished(alone["mkd"].detector, images)
    judged = made.detector.maps(images)
    np.testing.assert_array_equal(np.argsort(judged.scores["sum_score"]), np.argsort(scores))
    assert np.corrcoef(judged.maps["sum"].ravel(), shown.ravel())[0, 1] == pytest.approx(1)


def test_places_inside_of_a_one_class_svm_whose_values_are_below_0_keep_their_order(fit, settings):
    made = fit(CommitteeDetector, settings("patch_ocsvm"))
    own = fit(BaselineDetector, settings("patch_ocsvm").of_members["patch_ocsvm"])
    images = made.seen.batch(made.seen.split.rows("test"))
    _, shown = finished(own.detector, images)
    assert (shown < 0).mean() > 0.3
    together = made.detector.maps(images).maps["sum"]
    inside = shown < 0
    assert spearmanr(shown[inside], together[inside]).statistic == pytest.approx(1, abs=1e-4)


def test_one_held_out_image_has_no_spread_of_scores_and_divides_nothing_by_it(fit, settings, images, split):
    table = split.table.copy()
    table.loc[split.rows("validation")[1:], "split"] = "train"
    made = fit(CommitteeDetector, settings("mkd", "position_gaussian"), images=images, split=Split(table))
    assert [found["score"].sd for found in made.detector.standards.values()] == [1.0, 1.0]
    found = made.detector.maps(made.seen.batch(made.seen.split.scored), None, made.detector.methods)
    assert all(np.isfinite(values).all() for values in (found.scores | found.maps).values())
    assert found.scores["sum_score"][0] == pytest.approx(0, abs=1e-4)


def test_what_is_kept_says_whose_it_is(fit, settings):
    detector = fit(CommitteeDetector, settings("mkd", "memory_bank")).detector
    names = detector.learnt_state()
    assert {name.split(".")[0] for name in names} == {"mkd", "memory_bank"}
    assert "memory_bank.patches" in names
    facts = detector.learnt_facts()
    with pytest.raises(ValueError, match="its members are mkd, memory_bank, and it has what memory_bank learnt"):
        detector.restore(names, {"members": {"memory_bank": facts["members"]["memory_bank"]}})


def test_raw_maps_are_found_again_by_everything_that_members_finish_them_by(fit, settings):
    made = fit(CommitteeDetector, settings("mkd"))
    key = made.detector.raw_key(["sum"], made.seen)
    assert fit(CommitteeDetector, settings("mkd")).detector.raw_key(["sum"], made.seen) == key
    smoother = {"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 2.0}}}
    for scoring in (smoother, smoother | {"smoothing": {"discrepancy": {"gaussian_sigma": 1.0}}, "detection": TOP}):
        other = fit(CommitteeDetector, settings("mkd", scoring=scoring)).detector
        assert other.key == made.detector.key  # one training
        assert other.raw_key(["sum"], made.seen) != key


TOP = {"top_fraction": 0.5}


def test_a_point_that_a_member_needs_and_the_source_lacks_is_refused_before_training(prepare, settings):
    wrong = {"methods": {"memory_bank": {"detector": "memory_bank"}}, "points": ["stage9"]}
    with pytest.raises(InputError, match=r"baselines\.points names 'stage9'"):
        prepare(CommitteeDetector, settings("mkd", "memory_bank", baselines=wrong))


def test_only_what_is_drawn_depends_on_the_seed(settings):
    assert CommitteeDetector.draws(settings("mkd"))
    assert CommitteeDetector.passage(settings("mkd", features={"batch_size": 3}), (8, 8)).batch_size == 3


def test_the_cost_is_that_of_the_members_that_say_theirs(fit, settings, alone):
    found = fit(CommitteeDetector, settings(*MEMBERS)).detector.cost()
    expected = [alone[name].detector.cost() for name in ("mkd", "stfpm")]
    assert found == {name: sum(cost[name] for cost in expected) for name in ("parameters", "flops")}
