import numpy as np
import pytest
import torch
from skimage.transform import downscale_local_mean
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from kdad.detectors.baselines.representations import Representation

ROWS, TRAINING = np.array([7, 2, 9]), np.arange(6)


@pytest.fixture
def raw(feature_set):
    """Return what a representation sees of these rows."""

    def of(represent, rows):
        return represent.raw(feature_set.batch(rows), feature_set.outputs(rows)["source"])

    return of


def test_source_is_the_mean_over_positions_of_every_point(feature_set, raw):
    found = raw(Representation("source", 4, 3), ROWS)
    fine, coarse = (point.numpy() for point in feature_set.outputs(ROWS)["source"])
    np.testing.assert_allclose(found, np.hstack([fine.mean((2, 3)), coarse.mean((2, 3))]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["pixels", "pca"])
def test_pixels_are_all_three_channels(feature_set, raw, kind):
    found = raw(Representation(kind, 4, 3), ROWS)
    assert found.shape == (3, 3 * 4 * 4)
    # A mean over the image stays what it is, nearly: an antialiased filter weighs the border a little otherwise.
    expected = downscale_local_mean(feature_set.batch(ROWS).numpy(), (1, 3, 8, 12)).ravel()
    assert found.mean(axis=1) == pytest.approx(expected, abs=0.03)


def test_channels_last_images_are_the_same_pixels(feature_set):
    represent, images = Representation("pixels", 4, 3), feature_set.batch(ROWS)
    found = represent.raw(images.to(memory_format=torch.channels_last), [])
    np.testing.assert_allclose(found, represent.raw(images, []), rtol=1e-5)


@pytest.mark.parametrize("kind", ["pixels", "source"])
def test_vectors_are_standardised_over_the_training_images(raw, kind):
    represent = Representation(kind, 4, 3)
    known = raw(represent, TRAINING)
    scaler = StandardScaler().fit(known.astype(np.float64))
    np.testing.assert_allclose(represent.fit(known), scaler.transform(known), rtol=1e-3, atol=1e-4)
    others = raw(represent, ROWS)
    np.testing.assert_allclose(represent(others), scaler.transform(others), rtol=1e-3, atol=1e-4)


def test_components_are_those_of_training_images_alone(raw):
    represent = Representation("pca", 4, 3)
    known, others = raw(represent, TRAINING), raw(represent, ROWS)
    basis = PCA(3, random_state=0).fit(known)
    scaler = StandardScaler().fit(basis.transform(known))
    np.testing.assert_allclose(represent.fit(known), scaler.transform(basis.transform(known)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(represent(others), scaler.transform(basis.transform(others)), rtol=1e-4, atol=1e-5)


def test_there_are_no_more_components_than_images_allow(raw):
    represent = Representation("pca", 4, 64)
    assert represent.fit(raw(represent, TRAINING)).shape == (6, 5)
    assert represent(raw(represent, ROWS)).shape == (3, 5)


def test_a_constant_pixel_stays_finite():
    represent = Representation("pixels", 4, 3)
    known = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    known[:, 2] = 0.5
    np.testing.assert_allclose(represent.fit(known)[:, 2], 0, atol=1e-6)
    assert represent(np.full((1, 4), 2.5, np.float32))[0, 2] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["pixels", "pca", "source"])
def test_a_restored_representation_gives_the_same_vectors(raw, kind):
    represent, restored = Representation(kind, 4, 3), Representation(kind, 4, 3)
    represent.fit(raw(represent, TRAINING))
    restored.load_state({name: tensor.clone() for name, tensor in represent.state().items()})
    others = raw(represent, ROWS)
    np.testing.assert_array_equal(restored(others), represent(others))
    assert restored(others).dtype == np.float32
