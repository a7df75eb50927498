"""Weights of members by hand."""

import pytest

from kdad.detectors.committee.weighting import generalisation_weights


def test_the_member_that_generalises_best_counts_for_one():
    found = generalisation_weights({"mkd": 1.1, "gaussian": 3.0}, {"mkd": 1.0, "gaussian": 2.0})
    assert found == pytest.approx({"mkd": 1.0, "gaussian": (1.1 / 1.5) ** 12})


def test_held_out_images_that_are_judged_better_than_training_images_count_as_equal():
    found = generalisation_weights({"mkd": 0.9, "gaussian": 1.2}, {"mkd": 1.0, "gaussian": 1.0})
    assert found == pytest.approx({"mkd": 1.0, "gaussian": 1.2**-12})


def test_maps_around_zero_have_no_ratio():
    found = generalisation_weights({"mkd": 2.0, "stfpm": 0.1, "other": -0.1}, {"mkd": 1.0, "stfpm": 0.0, "other": 1.0})
    assert found == pytest.approx({"mkd": 2.0**-12, "stfpm": 1.0, "other": 1.0})
