"""Regions of a map above a threshold, and how often a normal image has one."""

import numpy as np
import pytest
from scipy.ndimage import label
from skimage.morphology import area_opening

from kdad.scoring.threshold import PixelThreshold, find_regions, least_pixels, level_of, quantile_threshold


def test_regions_by_hand():
    anomaly_map = np.zeros((6, 8), np.float32)
    anomaly_map[1, 1:4] = 2.0
    anomaly_map[2, 4] = 2.0  # touches by a corner
    anomaly_map[4:, 6:] = 3.0
    anomaly_map[5, 0] = 9.0
    (big, most), (square, four) = find_regions(anomaly_map, 1.0, 2)
    assert (big, most, four) == ((slice(1, 3), slice(1, 5)), 4, 4)
    assert square == (slice(4, 6), slice(6, 8))
    assert [area for _, area in find_regions(anomaly_map, 1.0, 1)] == [4, 4, 1]
    assert [area for _, area in find_regions(anomaly_map, 2.0, 1)] == [4, 1]  # greater, not equal
    assert find_regions(anomaly_map, 9.0, 1) == []


@pytest.mark.parametrize("least", [1, 2, 7, 40, 300, 1000])
def test_the_level_is_the_highest_of_the_area_opening_and_below_it_there_is_a_region(least):
    generator = np.random.default_rng(least)
    for _ in range(5):
        anomaly_map = generator.normal(size=(20, 15)).astype(np.float32).round(1)
        level = level_of(anomaly_map, least)
        if least <= 300:
            assert level == area_opening(anomaly_map, least, connectivity=2).max()
            assert find_regions(anomaly_map, np.nextafter(np.float32(level), np.float32(-9)), least)
        assert find_regions(anomaly_map, level, least) == []


def test_an_area_is_of_the_images_own_pixels():
    assert least_pixels(100, (64, 64), (64, 64)) == 100
    assert least_pixels(100, (256, 128), (64, 64)) == 13  # a pixel of the map is 8 of the image's
    assert least_pixels(1, (1000, 1000), (64, 64)) == 1
    assert least_pixels(4, (32, 32), (64, 64)) == 16


def test_as_many_new_normal_images_have_a_region_as_promised():
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(600, 8, 8))
    maps[:, 1:] += maps[:, :-1]
    levels = np.array([level_of(one, 3) for one in maps])
    threshold = PixelThreshold.of(quantile_threshold(levels[:99], 0.9), levels[:99], min_area=3)
    marked = np.mean([len(find_regions(one, threshold.threshold.value, 3)) > 0 for one in maps[99:]])
    assert threshold.threshold.expected_false_positive_rate == pytest.approx(0.1)
    assert threshold.threshold.false_positive_rate_low < marked < threshold.threshold.false_positive_rate_high
    assert marked == (levels[99:] > threshold.threshold.value).mean()
    assert threshold.statement().partition(": ")[0].endswith("a region of 3 pixels or more is")
    assert PixelThreshold.model_validate_json(threshold.model_dump_json()) == threshold


def test_a_level_is_that_of_the_largest_region_by_brute_force():
    anomaly_map = np.random.default_rng(3).random((12, 12))
    for least in (1, 5, 20):
        holds = [
            value
            for value in np.unique(anomaly_map)
            if np.bincount(label(anomaly_map >= value, np.ones((3, 3)))[0].ravel())[1:].max() >= least
        ]
        assert level_of(anomaly_map, least) == max(holds)
