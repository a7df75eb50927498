import numpy as np
import pytest
from skimage.transform import downscale_local_mean
from sklearn.decomposition import PCA

from kdad.detectors.baselines.representations import represent

ROWS, TRAINING = np.array([7, 2, 9]), np.arange(6)


def test_source_is_the_mean_over_positions_of_every_point(cache):
    found = represent(cache, ROWS, TRAINING, "source", 4, 3)
    fine, coarse = (point.numpy() for point in cache.activations(ROWS))
    np.testing.assert_allclose(found, np.hstack([fine.mean((2, 3)), coarse.mean((2, 3))]), rtol=1e-5)


def test_pixels_are_all_three_channels(cache):
    found = represent(cache, ROWS, TRAINING, "pixels", 4, 3)
    assert found.shape == (3, 3 * 4 * 4)
    # A mean over the image stays what it is, nearly: an antialiased filter weighs the border a little otherwise.
    expected = downscale_local_mean(cache.images(ROWS).numpy(), (1, 3, 8, 12)).ravel()
    assert found.mean(axis=1) == pytest.approx(expected, abs=0.03)


def test_components_are_those_of_training_images_alone(cache):
    pixels = represent(cache, np.arange(10), TRAINING, "pixels", 4, 3)
    expected = PCA(3, random_state=0).fit(pixels[TRAINING]).transform(pixels[ROWS])
    np.testing.assert_allclose(represent(cache, ROWS, TRAINING, "pca", 4, 3), expected, rtol=1e-4, atol=1e-5)


def test_there_are_no_more_components_than_images_allow(cache):
    assert represent(cache, ROWS, TRAINING, "pca", 4, 64).shape == (3, 5)
