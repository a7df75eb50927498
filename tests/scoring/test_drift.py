"""Drift is found where there is some, seldom where there is none, and not spoken of where nothing can be told."""

import numpy as np
import pytest
from scipy import integrate, stats

from kdad.scoring.drift import NormalReference, compare_scores, latest_look
from kdad.scoring.parameters import DriftParameters
from kdad.scoring.threshold import labelled_threshold, quantile_threshold, threshold_by_rule


def _reference(seed=0, count=100, quantile=0.95):
    scores = np.sort(np.random.default_rng(seed).normal(size=count))
    return NormalReference(quantile_threshold(scores, quantile), scores)


def _look(stream, reference, parameters):
    """Look at a stream of which no more is kept than has to be."""
    kept = parameters.window + parameters.window // 2
    return latest_look(stream[-kept:], stream.size, reference, parameters)


def test_both_tests_by_hand():
    reference = NormalReference(quantile_threshold(np.arange(1.0, 20.0), 0.9), np.arange(1.0, 20.0))
    assert reference.threshold.value == 18  # two of twenty places are above it
    found = compare_scores(np.r_[np.full(19, 0.5), 30.0, 31.0], reference, 0.05)
    assert (found.images, found.alarms, found.promised) == (21, 2, 0.1)
    assert found.statistic == pytest.approx(19 / 21)  # just above 0.5, where none of the others is
    # The rate of alarms is Beta(2, 18), drawn with the threshold: averaged over it by quadrature.
    chance, _ = integrate.quad(lambda rate: stats.binom.sf(1, 21, rate) * stats.beta.pdf(rate, 2, 18), 0, 1)
    assert found.alarm_p_value == pytest.approx(chance, rel=1e-6)
    # Clopper and Pearson: at its ends the observed number, or a stranger one, has a chance of 2.5 %.
    assert stats.binom.sf(1, 21, found.alarm_rate_low) == pytest.approx(0.025)
    assert stats.binom.cdf(2, 21, found.alarm_rate_high) == pytest.approx(0.025)


def test_a_shift_is_told_as_one_that_may_be_real_anomalies():
    found = compare_scores(np.random.default_rng(1).normal(2, 1, 100), _reference(), 0.01)
    assert found.verdict == "changed" and found.higher
    said = found.statement()
    assert said.startswith("the promised false positive rate no longer holds, if these images are normal")
    assert (
        "real anomalies" in said and f"{found.alarms} of 100 images" in said and "promised of normal ones 5.0%" in said
    )
    assert found.numbers()["changed"] == 1


def test_of_labelled_normal_images_no_real_anomalies_are_spoken_of():
    found = compare_scores(np.random.default_rng(1).normal(2, 1, 100), _reference(), 0.01, labelled=True)
    assert "real anomalies" not in found.statement() and "normal images are above" in found.statement()


def test_lower_scores_are_no_false_alarms():
    found = compare_scores(np.random.default_rng(1).normal(-2, 1, 100), _reference(), 0.01)
    assert found.verdict == "changed"
    assert found.statement().startswith("scores have fallen or spread: no more false alarms")


def test_like_scores_are_no_drift():
    found = compare_scores(np.random.default_rng(2).normal(size=300), _reference(), 0.01)
    assert found.verdict == "unchanged" and found.statement().startswith("no sign that")
    assert found.numbers()["changed"] == 0


@pytest.mark.parametrize(("new", "validation", "said"), [(19, 100, "by 19 images"), (50, 8, "by 8 normal validation")])
def test_few_images_tell_nothing(new, validation, said):
    found = compare_scores(np.random.default_rng(3).normal(size=new), _reference(count=validation), 0.01)
    assert found.verdict == "unknown" and said in found.statement()
    assert "changed" not in found.numbers()


def test_few_new_images_are_no_drift_however_far_they_are():
    assert compare_scores(np.full(19, 100.0), _reference(), 0.01).verdict == "unknown"
    assert compare_scores(np.full(20, 100.0), _reference(), 0.01).verdict == "changed"
    assert compare_scores(np.empty(0), _reference(), 0.01).numbers() == {"images": 0}


def test_a_threshold_of_labels_is_held_to_the_bound_of_its_rate():
    scores = np.r_[np.arange(50.0), np.arange(40.0, 60.0)]
    threshold = labelled_threshold(np.r_[np.zeros(50, int), np.ones(20, int)], scores, "youden")
    found = compare_scores(np.arange(50.0), NormalReference(threshold, np.arange(50.0)), 0.01)
    assert found.alarm_p_value == pytest.approx(
        stats.binom.sf(found.alarms - 1, 50, threshold.false_positive_rate_bound)
    )


def test_looks_are_every_half_window_and_share_alpha():
    reference, parameters = _reference(), DriftParameters(alpha=0.01, window=40)
    stream = np.random.default_rng(5).normal(size=1000)
    assert _look(stream[:19], reference, parameters) is None
    for count, images, share in ((20, 20, 2), (39, 20, 2), (40, 40, 6), (59, 40, 6), (60, 40, 12), (200, 40, 110)):
        found = _look(stream[:count], reference, parameters)
        assert found.images == images and found.alpha == pytest.approx(0.01 / share)
    expected = compare_scores(stream[20:60], reference, 0.01 / 12)
    assert _look(stream[:70], reference, parameters) == expected


def test_streams_without_drift_are_seldom_reported():
    alpha, streams, reported = 0.1, 60, 0
    parameters = DriftParameters(alpha=alpha, window=40)
    for seed in range(streams):
        generator = np.random.default_rng(seed)
        validation = np.sort(generator.normal(size=60))
        reference = NormalReference(quantile_threshold(validation, 0.95), validation)
        stream = generator.normal(size=300)
        looks = (_look(stream[:count], reference, parameters) for count in range(20, 301, 20))
        reported += any(look.verdict == "changed" for look in looks)
    assert reported <= stats.binom.ppf(0.999, streams, alpha)


def test_a_stream_that_drifts_is_reported():
    reference, parameters = _reference(), DriftParameters(alpha=0.01, window=100)
    generator = np.random.default_rng(6)
    stream = np.r_[generator.normal(size=1000), generator.normal(1.5, 1, size=150)]
    assert _look(stream[:1000], reference, parameters).verdict == "unchanged"
    assert _look(stream, reference, parameters).verdict == "changed"


def test_where_nothing_was_promised_scores_alone_are_compared():
    reference = _reference()
    own = NormalReference(threshold_by_rule("value", 0.0, np.zeros(1, int), np.zeros(1)), reference.scores)
    scores = np.random.default_rng(2).normal(size=300)
    found = compare_scores(scores, own, 0.01)
    assert (found.verdict, found.alarm_p_value) == ("unchanged", 1.0)
    assert found.statement().startswith("no sign that scores have changed: ")
    assert "; nothing is promised); " in found.statement()
    assert "promised_rate" not in found.numbers()
    risen = compare_scores(scores + 1, own, 0.01)
    assert risen.verdict == "changed"
    assert risen.statement().startswith("scores have risen: ")
    assert compare_scores(scores[:5], own, 0.01).statement().startswith("whether scores have changed cannot be told by")
    # Of groups the number of alarms says nothing either: their images exceed it together.
    groups = NormalReference(quantile_threshold(np.arange(100.0), 0.9, np.arange(100) // 10), reference.scores)
    assert compare_scores(scores, groups, 0.01).alarm_p_value == 1.0
