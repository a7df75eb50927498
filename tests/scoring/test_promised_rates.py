"""The promised false positive rate against what happens, over 200 resamples of drawn scores."""

import numpy as np
import pytest
from scipy.stats import gamma

from kdad.scoring.threshold import quantile_threshold

_RESAMPLES = 200
#: What of 200, each right with a chance of 0.95, may fall short: four standard deviations.
_SLACK = 4 * np.sqrt(0.95 * 0.05 / _RESAMPLES)


@pytest.mark.parametrize("count", [10, 20, 40, 100])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_observed_rate_is_inside_its_interval_at_the_stated_rate(count, fraction):
    validation = max(round(fraction * count), 1)
    generator = np.random.default_rng(count)
    inside, below, rates = [], [], []
    for scores in generator.gamma(2.0, size=(_RESAMPLES, validation)):
        found = quantile_threshold(scores, 0.95)
        rate = gamma.sf(found.value, 2.0)
        inside.append(found.false_positive_rate_low <= rate <= found.false_positive_rate_high)
        below.append(rate <= found.false_positive_rate_bound)
        rates.append(rate)
    assert np.mean(inside) >= 0.95 - _SLACK
    assert np.mean(below) >= 0.95 - _SLACK
    # The rate above the k-th of n is distributed as Beta(n + 1 - k, k), whose sd is at most 0.29.
    spread = np.std(rates) / np.sqrt(_RESAMPLES)
    assert np.mean(rates) == pytest.approx(found.expected_false_positive_rate, abs=4 * spread)
