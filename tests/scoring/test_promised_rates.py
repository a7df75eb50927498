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


def _films(generator: np.random.Generator, films: int, frames: int = 40) -> np.ndarray:
    """Return scores `(films, frames)`: frames of a film differ by a tenth of what films do."""
    return generator.normal(size=(films, 1)) + 0.1 * generator.normal(size=(films, frames))


def test_six_films_promise_by_groups_what_is_observed_on_others():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 40)
    new = _films(generator, 20_000)
    inside, by_images = [], []
    for _ in range(20):
        scores = _films(generator, 6).ravel()
        found = quantile_threshold(scores, 0.95, groups)
        rate = (new.max(axis=1) > found.value).mean()
        inside.append(found.false_positive_rate_low <= rate <= found.false_positive_rate_high)
        # That of images is no more in the mean: a film without an image above it has none.
        assert (new > found.value).mean() <= rate
        alone = quantile_threshold(scores, 0.95)
        rate = (new > alone.value).mean()
        by_images.append(alone.false_positive_rate_low <= rate <= alone.false_positive_rate_high)
    assert found.expected_false_positive_rate == pytest.approx(1 / 7)
    assert sum(inside) >= 18
    assert sum(by_images) < 10  # as 240 draws that they are not
