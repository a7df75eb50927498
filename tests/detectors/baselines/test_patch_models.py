"""Patch detectors against brute force and SciPy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.svm import OneClassSVM

from kdad.detectors.baselines.patch_detectors import (
    PositionGaussian,
    feature_dictionary,
    memory_bank,
    nearest_centre,
    one_class_svm,
    patch_features,
    patches_of,
    sample_patches,
)

GENERATOR = np.random.default_rng(1)


def test_features_lie_on_the_finest_grid(cache):
    rows = np.array([3, 1])
    found = patch_features(cache, rows, ["fine", "coarse"])
    fine, coarse = cache.activations(rows)
    assert found.shape == (2, 8, 4, 6)
    torch.testing.assert_close(found[:, :3], fine)
    # Bilinear: twice as fine, position (1, 1) lies a quarter of the way from (0, 0) to (1, 1) of the coarse grid.
    corner = coarse[:, :, :2, :2]
    weights = torch.tensor([[9.0, 3.0], [3.0, 1.0]]) / 16
    torch.testing.assert_close(found[:, 3:, 1, 1], (corner * weights).sum((2, 3)))
    assert torch.equal(patch_features(cache, rows, ["fine"]), fine)


def test_sampled_patches_are_of_every_image_and_not_repeated(cache):
    rows = np.arange(4)
    found = sample_patches(cache, rows, ["fine"], 20, np.random.default_rng(0))
    assert found.shape == (20, 3)
    everything = patches_of(patch_features(cache, rows, ["fine"]))
    for image, drawn in zip(everything, found.reshape(4, 5, 3), strict=True):
        places = [int(np.flatnonzero((image == patch).all(axis=1))[0]) for patch in drawn]
        assert len(set(places)) == 5
    assert len(sample_patches(cache, rows, ["fine"], 10_000, np.random.default_rng(0))) == 4 * 24


def test_memory_bank_is_the_distance_to_the_nearest_patch():
    bank, patches = GENERATOR.normal(size=(30, 4)), GENERATOR.normal(size=(2, 5, 4))
    score, kept = memory_bank(bank)
    np.testing.assert_allclose(score(patches), cdist(patches.reshape(10, 4), bank).min(axis=1).reshape(2, 5), rtol=1e-6)
    assert kept == bank.nbytes


def test_position_gaussian_is_scipys_mahalanobis_distance():
    known, patches = GENERATOR.normal(size=(12, 3, 5)), GENERATOR.normal(size=(2, 3, 5))
    channels = np.array([0, 2, 4])
    gaussian = PositionGaussian(channels, 0.1)
    for batch in (known[:7], known[7:]):
        gaussian.update(batch)
    score, _ = gaussian.finish()
    found = score(patches)
    for position in range(3):
        of_position = known[:, position][:, channels]
        inverse = np.linalg.inv(np.cov(of_position.T) + 0.1 * np.eye(3))
        for image in range(2):
            expected = mahalanobis(patches[image, position, channels], of_position.mean(axis=0), inverse)
            assert found[image, position] == pytest.approx(expected, rel=1e-6)


def test_a_dictionary_of_as_many_words_as_patches_knows_each_of_them():
    patches = np.repeat(np.eye(4) * 10, 20, axis=0)
    score, _ = feature_dictionary(patches, 4, 0.999, 0)
    np.testing.assert_allclose(score(patches[None, ::20]), 0, atol=1e-4)
    # The middle of all four words is equally far from each: 10 * sqrt(3) / 2.
    assert score(np.full((1, 1, 4), 2.5))[0, 0] == pytest.approx(10 * np.sqrt(3) / 2, rel=1e-3)


def test_nearest_centre_of_two_clusters_is_the_distance_to_the_nearer_mean():
    around = GENERATOR.normal(scale=0.01, size=(20, 3))
    patches = np.concatenate([around - around.mean(axis=0), around - around.mean(axis=0) + 10])
    score, kept = nearest_centre(patches, 2, 0)
    np.testing.assert_allclose(score(np.array([[[0.0, 0, 3], [10, 10, 6], [5, 5, 5]]]))[0], [3, 4, 75**0.5], rtol=1e-2)
    assert kept == 2 * 3 * 8


def test_one_class_svm_is_scikit_learns_decision_function():
    patches, others = GENERATOR.normal(size=(60, 4)) * 3, GENERATOR.normal(size=(2, 5, 4)) * 4
    score, _ = one_class_svm(patches, 0.2)
    library = OneClassSVM(nu=0.2).fit(patches)
    np.testing.assert_allclose(score(others), -library.decision_function(others.reshape(10, 4)).reshape(2, 5))
