import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdad.errors import InputError
from kdad.scoring.threshold import Threshold, quantile_threshold


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
    assert quantile_threshold(scores, quantile) == Threshold(rank, pytest.approx(1 - rank / (count + 1)), count)


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
        ([], 0.95, "no held-out normal scores"),
        ([1.0, float("nan")], 0.95, "not all finite"),
        ([1.0, float("inf")], 0.95, "not all finite"),
        ([1.0], 0.0, "quantile is 0.0"),
        ([1.0], 1.0, "quantile is 1.0"),
    ],
)
def test_unusable_input_is_refused(scores, quantile, message):
    with pytest.raises(InputError, match=message):
        quantile_threshold(np.array(scores), quantile)
