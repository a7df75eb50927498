"""Thresholds against order statistics, simulations, and trying every cut."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, norm

from kdad.errors import InputError
from kdad.scoring.threshold import (
    Threshold,
    images_needed,
    labelled_threshold,
    quantile_threshold,
    rate_threshold,
    threshold_again,
    threshold_by_rule,
)

#: What of 2000 simulations, each right with a chance of 0.95, may fall short: four standard deviations.
_SLACK = 4 * np.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("count", "quantile", "rank"),
    [
        (19, 0.95, 19),  # 20 * 0.95 = 19
        (99, 0.95, 95),
        (99, 0.07, 7),  # 100 * 0.07 is a hair above 7 in floating point
        (10, 0.95, 10),  # 10.45 needs an 11th
        (10, 0.5, 6),  # 5.5
        (1, 0.01, 1),
    ],
)
def test_value_is_the_order_statistic(count, quantile, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    found = quantile_threshold(scores, quantile)
    assert (found.value, found.normal_images, found.anomalous_images) == (rank, count, 0)
    assert (found.rule, found.wanted) == ("quantile", quantile)
    assert found.expected_false_positive_rate == pytest.approx(1 - rank / (count + 1))


def test_new_normal_scores_exceed_it_as_often_as_expected():
    rng = np.random.default_rng(0)
    samples = rng.gamma(2.0, size=(8000, 20))
    thresholds = [quantile_threshold(sample[:19], 0.9) for sample in samples]
    exceeded = np.mean(samples[:, 19] > [threshold.value for threshold in thresholds])
    assert thresholds[0].expected_false_positive_rate == pytest.approx(0.1)
    assert exceeded == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 8000))


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-5, 5)), st.floats(0.01, 0.99))
def test_false_positives_stay_within_the_quantile_when_samples_suffice(scores, quantile):
    threshold = quantile_threshold(scores, quantile)
    assert threshold.value in scores
    assert np.sum(scores > threshold.value) <= (1 - quantile) * scores.size
    enough = (1 - quantile) * (scores.size + 1) >= 1
    assert threshold.expected_false_positive_rate <= 1 - quantile + 1e-9 or not enough


@pytest.mark.parametrize(
    ("scores", "quantile", "message"),
    [
        ([], 0.95, "no normal validation scores"),
        ([1.0, float("nan")], 0.95, "not all finite"),
        ([1.0, float("inf")], 0.95, "not all finite"),
        ([1.0], 0.0, "quantile is 0.0"),
        ([1.0], 1.0, "quantile is 1.0"),
    ],
)
def test_unusable_input_is_refused(scores, quantile, message):
    with pytest.raises(InputError, match=message):
        quantile_threshold(np.array(scores), quantile)


@pytest.mark.parametrize(("count", "quantile"), [(1, 0.5), (19, 0.95), (60, 0.9), (59, 0.99), (200, 0.95)])
def test_the_bound_is_the_rate_at_which_so_high_a_threshold_has_a_chance_of_5_percent(count, quantile):
    found = quantile_threshold(np.arange(float(count)), quantile)
    rank = int(found.value) + 1
    # At this rate the k-th of n scores is below the level exactly when at most n - k of n scores are above it.
    assert binom.cdf(count - rank, count, found.false_positive_rate_bound) == pytest.approx(0.05, rel=1e-6)


def test_the_bound_holds_with_the_confidence_that_it_states():
    samples = np.random.default_rng(1).normal(size=(2000, 40))
    found = [quantile_threshold(sample, 0.9) for sample in samples]
    held = np.mean([norm.sf(threshold.value) <= threshold.false_positive_rate_bound for threshold in found])
    assert held == pytest.approx(0.95, abs=_SLACK)


@pytest.mark.sample(1)
@pytest.mark.parametrize("count", [5, 20, 60])
def test_the_interval_holds_the_true_rate_as_often_as_it_says(count):
    samples = np.random.default_rng(3).normal(size=(2000, count))
    held = []
    for sample in samples:
        found = quantile_threshold(sample, 0.9)
        held.append(found.false_positive_rate_low <= norm.sf(found.value) <= found.false_positive_rate_high)
    assert np.mean(held) == pytest.approx(0.95, abs=_SLACK)


def test_the_interval_of_two_images_by_hand():
    # The larger of two is exceeded at a rate p with (1 - p)^2 = 0.975 and 0.025: p = 0.01258 and 0.84189.
    found = quantile_threshold(np.array([1.0, 2.0]), 0.95)
    assert found.false_positive_rate_low == pytest.approx(1 - np.sqrt(0.975))
    assert found.false_positive_rate_high == pytest.approx(1 - np.sqrt(0.025))
    assert found.draws_missing == 17
    assert found.statement().endswith("(2 normal images); the wanted 5.00% takes 17 more normal validation images")


@pytest.mark.parametrize(("quantile", "needed"), [(0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1), (0.7, 3)])
def test_how_many_images_a_quantile_takes(quantile, needed):
    # n scores promise 1 / (n + 1) at best.
    assert images_needed(quantile) == needed
    assert quantile_threshold(np.arange(float(needed)), quantile).draws_missing == 0
    assert quantile_threshold(np.arange(needed + 1.0), quantile).draws_missing == 0


def test_how_many_of_new_images_exceed_the_larger_of_two_by_hand():
    # Of 3 new scores j exceed the larger of 2 with the chance 2 * (4 - j) / 20, j = 0..3: 0.4, 0.3, 0.2, 0.1.
    found = quantile_threshold(np.array([1.0, 2.0]), 0.95)
    assert found.exceeding_range(3) == (0, 3)
    # Of 1000, 2.5 % lie below 12 and above 841, by the rate's own quantiles 0.0126 and 0.8419.
    assert found.exceeding_range(1000) == pytest.approx((12, 841), abs=2)


def test_the_range_holds_new_images_as_often_as_it_says():
    samples = np.random.default_rng(4).normal(size=(2000, 20 + 30))
    held = []
    for sample in samples:
        found = quantile_threshold(sample[:20], 0.9)
        low, high = found.exceeding_range(30)
        held.append(low <= (sample[20:] > found.value).sum() <= high)
    assert np.mean(held) >= 0.95 - _SLACK


def test_no_range_for_a_threshold_that_anomalous_images_had_a_part_in():
    assert labelled_threshold(np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0]), "f1").exceeding_range(9) is None


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        # 1 of 4 normal scores above the cut; sqrt(ln(1 / 0.025) / 8) = 0.6791
        ("youden", 0.0, 0.25 + 0.67905),
        # Clopper and Pearson: 1 - 0.975^(1/4), and p with (1 - p)^4 + 4 p (1 - p)^3 = 0.025
        ("true_positive_rate", 1 - 0.975**0.25, 0.80588),
    ],
)
def test_the_interval_of_labelled_rules_by_hand(rule, low, high):
    labels, scores = np.array([0, 0, 0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 6.0, 5.0, 7.0])
    found = labelled_threshold(labels, scores, rule, 1.0 if rule == "true_positive_rate" else None)
    assert found.value == 4.0
    assert found.false_positive_rate_low == pytest.approx(low, abs=1e-5)
    assert found.false_positive_rate_high == pytest.approx(high, abs=1e-5)


def test_a_threshold_of_an_older_version_is_read():
    older = {"value": 1.0, "rule": "quantile", "wanted": 0.95, "normal_images": 19}
    older |= {"expected_false_positive_rate": 0.05, "false_positive_rate_bound": 0.15}
    by_folds = older | {"scores_of": "folds", "folds": 5}  # what cross-fitting said until it was removed
    assert Threshold.model_validate(by_folds) == Threshold.model_validate(older)


def test_a_promise_is_put_into_words():
    # The 19th of 19: 1 / 20 is expected; at the rate p of the bound (1 - p)^19 is 5 %, p = 1 - 0.05^(1/19) = 14.59 %.
    statement = quantile_threshold(np.arange(19.0), 0.95).statement()
    assert statement.startswith("5.00% of new normal images are expected above it, less than 14.59% with 95 %")
    assert statement.endswith("(19 normal images)")


@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-5, 5), unique=True), st.floats(0.02, 0.98))
def test_a_wanted_rate_is_promised_by_the_lowest_score_that_can(scores, rate):
    # A new normal score exceeds the k-th of n with the chance (n + 1 - k) / (n + 1).
    count = scores.size
    chances = {value: (count - position) / (count + 1) for position, value in enumerate(sorted(scores))}
    able = [value for value, chance in chances.items() if chance <= rate + 1e-9]
    if not able:
        with pytest.raises(InputError, match=f"{count} normal images can promise"):
            rate_threshold(scores, rate)
        return
    found = rate_threshold(scores, rate)
    assert found.value == min(able)
    assert found.expected_false_positive_rate == pytest.approx(chances[found.value])
    assert (found.rule, found.wanted, found.normal_images) == ("false_positive_rate", rate, count)


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.01, 99), (0.3, 3), (0.5, 1)])
def test_too_few_normal_images_for_a_rate(rate, needed):
    assert rate_threshold(np.arange(float(needed)), rate).expected_false_positive_rate <= rate
    for count in {needed - 1, 0}:
        with pytest.raises(InputError, match=rf"{count} normal images can promise .*{1 / (count + 1):.2%}.*{needed}"):
            rate_threshold(np.arange(float(count)), rate)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_outside_0_and_1(rate):
    with pytest.raises(InputError, match=f"the wanted false positive rate is {rate}"):
        rate_threshold(np.arange(10.0), rate)


def _worth(labels, decisions, rule, wanted):
    """Return what the rule wants to be large, of decisions."""
    found, false = np.sum(decisions & (labels == 1)), np.sum(decisions & (labels == 0))
    anomalous, normal = np.sum(labels == 1), np.sum(labels == 0)
    if rule == "f1":
        return 2 * found / (2 * found + false + anomalous - found)
    if rule == "youden":
        return found / anomalous - false / normal
    return -false if found / anomalous >= wanted - 1e-12 else -np.inf


@st.composite
def _labelled(draw):
    elements = st.floats(-5, 5) if draw(st.booleans()) else st.integers(0, 4).map(float)
    scores = draw(arrays(np.float64, st.integers(2, 30), elements=elements))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=scores.size, max_size=scores.size)))
    labels[:2] = [0, 1]
    return labels, scores


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [("f1", None), ("youden", None), *[("true_positive_rate", wanted) for wanted in (0.3, 0.5, 1.0)]],
)
@given(_labelled())
def test_no_cut_is_better_on_labelled_images(rule, wanted, labelled):
    labels, scores = labelled
    found = labelled_threshold(labels, scores, rule, wanted)
    reached = _worth(labels, scores > found.value, rule, wanted)
    every_cut = [-np.inf, *scores]
    assert reached >= max(_worth(labels, scores > cut, rule, wanted) for cut in every_cut) - 1e-12
    assert np.isfinite(found.value)
    exceeding, normal = np.sum(scores[labels == 0] > found.value), np.sum(labels == 0)
    assert found.expected_false_positive_rate == pytest.approx((exceeding + 1) / (normal + 1))
    assert exceeding / normal <= found.false_positive_rate_bound <= 1
    assert (found.normal_images, found.anomalous_images) == (normal, np.sum(labels == 1))
    assert (found.rule, found.wanted) == (rule, wanted)


def test_by_hand_with_ties_the_threshold_is_in_the_middle_of_its_gap():
    scores, labels = np.array([1.0, 2.0, 2.0, 4.0, 4.0, 7.0]), np.array([0, 0, 1, 0, 1, 1])
    # score > 5.5: F1 = 2 / (1 + 3) = 0.5; > 3: 2 * 2 / (3 + 3) = 0.667; > 1.5: 2 * 3 / (5 + 3) = 0.75; all: 6 / 9
    assert labelled_threshold(labels, scores, "f1").value == 1.5
    # true minus false positive rate: 1/3 - 0; 2/3 - 1/3; 1 - 2/3: all equal, so the one that finds fewest
    assert labelled_threshold(labels, scores, "youden").value == 5.5
    assert labelled_threshold(labels, scores, "true_positive_rate", 2 / 3).value == 3.0
    assert labelled_threshold(labels, scores, "true_positive_rate", 0.34).value == 3.0
    assert labelled_threshold(labels, scores, "true_positive_rate", 1.0).value == 1.5


def test_the_threshold_below_all_scores_is_below_them():
    found = labelled_threshold(np.array([1, 0]), np.array([3.0, 3.0]), "f1")
    assert found.value < 3.0
    assert found.value == pytest.approx(3.0)


def test_where_finding_nothing_is_best_the_threshold_is_finite_and_finds_nothing():
    found = labelled_threshold(np.array([0, 0, 1]), np.array([2.0, 3.0, 1.0]), "youden")
    assert found.value == 3.0
    assert Threshold.model_validate(json.loads(found.model_dump_json())) == found


@pytest.mark.parametrize("low", [1.0, -3.0, 0.0, 1e308])
def test_a_gap_of_a_hair_is_still_split(low):
    scores = np.array([low, np.nextafter(low, np.inf)])
    found = labelled_threshold(np.array([0, 1]), scores, "f1")
    assert (scores > found.value).tolist() == [False, True]


@pytest.mark.parametrize(
    ("rule", "normal", "shift"),
    [("f1", 50, 1.0), ("youden", 50, 1.0), ("youden", 20, 0.0), ("true_positive_rate", 20, 1.0)],
)
@pytest.mark.long
def test_the_bound_holds_although_the_cut_was_chosen_by_the_same_images(rule, normal, shift):
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], normal)
    held = []
    for _ in range(2000):
        scores = np.r_[rng.normal(size=normal), rng.normal(shift, size=normal)]
        found = labelled_threshold(labels, scores, rule, 0.7 if rule == "true_positive_rate" else None)
        held.append(norm.sf(found.value) <= found.false_positive_rate_bound)
    assert np.mean(held) >= 0.95 - _SLACK


@pytest.mark.parametrize(
    ("labels", "scores", "rule", "wanted", "message"),
    [
        ([0, 0], [1.0, 2.0], "f1", None, "'f1' needs normal and anomalous images; there are 2 and 0"),
        ([1], [1.0], "youden", None, "there are 0 and 1"),
        ([0, 1], [1.0, float("nan")], "f1", None, "not all finite"),
        ([0, 1], [1.0, 2.0], "true_positive_rate", None, "the wanted true positive rate is None"),
        ([0, 1], [1.0, 2.0], "true_positive_rate", 0.0, "the wanted true positive rate is 0.0"),
        ([0, 1], [1.0, 2.0], "true_positive_rate", 1.1, "the wanted true positive rate is 1.1"),
    ],
)
def test_unusable_labelled_input_is_refused(labels, scores, rule, wanted, message):
    with pytest.raises(InputError, match=message):
        labelled_threshold(np.array(labels), np.array(scores), rule, wanted)


def test_a_rule_takes_the_scores_that_are_its_own():
    labels, scores = np.array([0, 1, 0, 1, 0]), np.array([1.0, 9.0, 2.0, 8.0, 3.0])
    # The second of three normal scores: 4 * 0.5.
    assert threshold_by_rule("quantile", 0.5, labels, scores).value == 2.0
    # Both anomalous scores lie above all normal ones, so that no normal image has to exceed it.
    found = threshold_by_rule("f1", None, labels, scores)
    assert (found.normal_images, found.anomalous_images) == (3, 2)
    assert 3.0 <= found.value < 8.0
    assert threshold_by_rule("false_positive_rate", 0.5, labels, scores).anomalous_images == 0


def test_a_group_counts_once_by_its_highest_image():
    scores, groups = np.array([3.0, 1.0, 2.0, 9.0, 4.0, 5.0]), np.array(["a", "a", "b", "c", "b", "b"])
    found = quantile_threshold(scores, 0.5, groups)
    # Highest of a, b, c: 3, 5, 9; k = ceil(4 * 0.5) = 2, of which two of four gaps are above.
    assert (found.value, found.group_scores, found.normal_images, found.draws) == (5.0, [3.0, 5.0, 9.0], 6, 3)
    assert found.expected_false_positive_rate == pytest.approx(2 / 4)
    same = quantile_threshold(np.array([3.0, 5.0, 9.0]), 0.5)
    assert found.model_copy(update={"group_scores": [], "normal_images": 3}) == same
    assert found.exceeding_range(30) == same.exceeding_range(30)
    assert found.statement().startswith("50.00% of new normal groups are expected above it, less than ")
    assert found.statement().endswith("(3 groups of 6 normal images)")
    assert quantile_threshold(scores, 0.95, groups).statement().endswith("takes 16 more normal validation groups")
    labelled = threshold_by_rule(
        "quantile", 0.5, np.append(np.zeros(6, int), 1), np.append(scores, 99), np.append(groups, "d")
    )
    assert labelled == found
    with pytest.raises(InputError, match=r"^3 normal groups can promise a false positive rate of 25\.00% at best"):
        rate_threshold(scores, 0.2, groups)
    # Set again on what is remembered it goes by groups too.
    assert threshold_again("quantile", 0.5, quantile_threshold(scores, 0.95, groups), scores) == found
    assert threshold_again("quantile", 0.5, same, np.array([3.0, 5.0, 9.0])) == same


def test_a_value_of_ones_own_is_taken_as_it_is_and_promises_nothing():
    labels, scores = np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0])
    found = threshold_by_rule("value", 2.5, labels, scores)
    assert (found.value, found.rule, found.wanted, found.normal_images) == (2.5, "value", 2.5, 0)
    assert (found.expected_false_positive_rate, found.false_positive_rate_bound) == (None, None)
    assert found.statement() == "it was set by hand, and promises nothing"
    assert found.exceeding_range(100) is None
    assert found.draws_missing == 0
    assert Threshold.model_validate_json(found.model_dump_json()) == found
    # The groups behind the one before are kept for a rule that is asked for later.
    grouped = quantile_threshold(scores, 0.5, np.array(["a", "a", "b"]))
    own = threshold_again("value", 2.5, grouped, scores)
    assert own.statement() == found.statement()
    assert threshold_again("quantile", 0.5, own, scores).draws == 2


def test_a_group_that_is_decided_on_has_a_threshold_of_the_same_rank():
    scores, groups = np.array([3.0, 1.0, 2.0, 9.0, 4.0, 6.0]), np.array(["a", "a", "b", "c", "b", "b"])
    plain = quantile_threshold(scores, 0.5, groups)
    highest, mean = (quantile_threshold(scores, 0.5, groups, how) for how in ("max", "mean"))
    # Highest of a, b, c: 3, 6, 9, their means: 2, 4, 9; the second of three.
    assert (plain.group_value, highest.value, highest.group_value, highest.group_means) == (None, 6.0, 6.0, [])
    assert (mean.value, mean.group_value, mean.group_means) == (6.0, 4.0, [2.0, 4.0, 9.0])
    assert plain.statement() == highest.statement() == mean.statement()
    for known in (highest, mean):
        assert Threshold.model_validate_json(known.model_dump_json()) == known
        lowest = threshold_again("quantile", 0.2, known, scores)  # ceil(4 * 0.2) = 1
        assert (lowest.value, lowest.group_value) == (3.0, 3.0 if known is highest else 2.0)
        own = threshold_again("value", 5.5, known, scores)
        assert (own.value, own.group_value, own.statement()[:18]) == (5.5, 5.5, "it was set by hand")
        assert threshold_again("quantile", 0.5, own, scores).group_value == known.group_value


def test_new_groups_exceed_theirs_as_often_as_promised():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    exceed = []
    for _ in range(400):
        draws = generator.normal(size=80)[:, None] + generator.normal(size=(80, 3))
        known = quantile_threshold(draws[:40].ravel(), 0.9, groups.astype(str), "mean")
        exceed.append((draws[40:].mean(1) > known.group_value).mean())
    # ceil(41 * 0.9) = 37, of 41 gaps 4 are above.
    assert known.expected_false_positive_rate == pytest.approx(4 / 41)
    assert np.mean(exceed) == pytest.approx(4 / 41, abs=0.01)
