"""One look at every image: thumbnails, masks, and which normal images are unlike the others."""

import numpy as np
import pytest
import torch

from kdad.features.survey import Survey, mean_activations, measure_outlyingness, survey_images
from memory_images import ANOMALOUS, MemoryImages, split_of


def test_outlyingness_is_in_robust_standard_deviations_of_each_channel():
    # Medians 3 and 30; absolute deviations 2 1 0 1 97 and 20 10 0 10 0 have the medians 1 and 10.
    vectors = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [100.0, 30.0]])
    expected = np.sqrt([(4 + 4) / 2, 1, 0, 1, 97**2 / 2]) / 1.4826
    np.testing.assert_allclose(measure_outlyingness(vectors), expected)


def test_channels_that_say_nothing_are_left_out():
    vectors = np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [4.0, 8.0], [5.0, 7.0]])
    np.testing.assert_allclose(measure_outlyingness(vectors), np.array([2, 1, 0, 1, 2]) / 1.4826)
    assert measure_outlyingness(np.ones((4, 3))).tolist() == [0, 0, 0, 0]


def survey_of(values: list[float]) -> Survey:
    return Survey(np.empty(0), np.empty(0), np.array(values))


def test_the_farthest_are_suspicious_the_farthest_first():
    # Median 1, median absolute deviation 0.1: the limit is 1 + 5 x 0.14826
    values = [0.9, np.nan, 1.1, 0.8, 1.9, 1.0, 1.2, 1.0, 3.0, 0.9, 1.0, 1.1]
    assert survey_of(values).suspicious.tolist() == [8, 4]


def test_few_images_say_nothing_of_what_is_usual():
    assert survey_of([1.0, 1.0, 1.1, 0.9, 1.0, 1.0, 50.0]).suspicious.size == 0
    assert survey_of([np.nan] * 20).suspicious.size == 0


@pytest.fixture
def small(source_of):
    """A small source with random weights."""
    return source_of("timm:test_resnet")


def test_a_normal_image_that_is_unlike_the_others_is_found(small):
    images = MemoryImages()
    images.pixels[:] = images.pixels[0] + np.random.default_rng(1).normal(0, 0.01, images.pixels.shape)
    split = split_of(images)
    odd = int(split.rows("train")[3])
    images.pixels[odd, :, :, 24:] = 1
    found = survey_images(images, split, small)
    assert found.suspicious[:1].tolist() == [odd]
    normal = np.isin(split.table["split"], ("train", "validation"))
    assert np.isnan(found.outlyingness).tolist() == (~normal).tolist()


def test_thumbnails_and_masks_are_those_of_each_image(small):
    images = MemoryImages()
    found = survey_images(images, split_of(images), small)
    # 32 x 48 pixels: a cell of 16 x 16 is 2 x 3 pixels
    expected = images.pixels.mean(axis=1).reshape(-1, 16, 2, 16, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found.thumbnails, expected, atol=1e-6)
    assert dict.fromkeys(ANOMALOUS, 8 * 12) == {
        int(row): int(found.mask_pixels[row]) for row in np.flatnonzero(found.mask_pixels >= 0)
    }


def test_activations_are_averaged_over_places(small):
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        found = mean_activations(images, small)
        expected = [point.mean(dim=(2, 3)) for point in small.activations(images)]
    np.testing.assert_allclose(found, torch.cat(expected, dim=1).numpy(), rtol=1e-4, atol=1e-5)
