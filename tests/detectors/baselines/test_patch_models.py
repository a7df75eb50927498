"""Models of patches against brute force, SciPy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.svm import OneClassSVM

from kdad.detectors.baselines.parameters import (
    FeatureDictionaryOptions,
    MemoryBankOptions,
    NearestCentreOptions,
    PatchSvmOptions,
    PositionGaussianOptions,
)
from kdad.detectors.baselines.patch_models import (
    FeatureDictionary,
    MemoryBank,
    NearestCentre,
    PatchSvm,
    PositionGaussian,
    new_patch_model,
    patches_of,
    sample_patches,
    side_by_side,
)

GENERATOR = np.random.default_rng(1)


def fitted(model, patches, seed=0):
    """Fit to patches `(N, C)`."""
    model.take(model.fit_patches(patches, seed))
    return model


def scores(model, patches):
    """Return the scores of patches `(B, P, C)`, which are in float32, as those of a source are."""
    return model.score(torch.from_numpy(np.asarray(patches, np.float32))).numpy()


def test_features_lie_on_the_finest_grid(feature_set):
    fine, coarse = feature_set.outputs(np.array([3, 1]))["source"]
    found = side_by_side([fine, coarse], [0, 1])
    assert found.shape == (2, 8, 4, 6)
    torch.testing.assert_close(found[:, :3], fine)
    # Bilinear: twice as fine, position (1, 1) lies a quarter of the way from (0, 0) to (1, 1) of the coarse grid.
    corner = coarse[:, :, :2, :2]
    weights = torch.tensor([[9.0, 3.0], [3.0, 1.0]]) / 16
    torch.testing.assert_close(found[:, 3:, 1, 1], (corner * weights).sum((2, 3)))
    assert torch.equal(side_by_side([fine, coarse], [0]), fine)
    assert torch.equal(side_by_side([fine, coarse], [1]), coarse)


def test_patches_are_positions_row_by_row():
    features = torch.arange(2 * 3 * 2 * 4).view(2, 3, 2, 4)
    found = patches_of(features)
    assert found.shape == (2, 8, 3)
    np.testing.assert_array_equal(found[1, 4 + 2], features[1, :, 1, 2])


def test_sampled_patches_are_of_every_image_and_not_repeated(feature_set):
    everything = patches_of(feature_set.outputs(np.arange(4))["source"][0]).numpy()

    def batches():
        return iter([everything[:3], everything[3:]])

    found = sample_patches(batches(), 4, 20, np.random.default_rng(0))
    assert found.shape == (20, 3)
    for image, drawn in zip(everything, found.reshape(4, 5, 3), strict=True):
        places = [int(np.flatnonzero((image == patch).all(axis=1))[0]) for patch in drawn]
        assert len(set(places)) == 5
    assert len(sample_patches(batches(), 4, 10_000, np.random.default_rng(0))) == 4 * 24


def test_fitting_samples_from_all_images():
    passes = [np.full((2, 6, 1), 3.0), np.full((1, 6, 1), 7.0)]
    model = MemoryBank(MemoryBankOptions(patches=6))
    model.fit(lambda: iter(passes), 3, np.random.default_rng(0), 0)
    assert sorted(model.arrays["patches"].ravel()) == [3.0] * 4 + [7.0] * 2


def test_memory_bank_is_the_distance_to_the_nearest_patch():
    bank, patches = GENERATOR.normal(size=(30, 4)), GENERATOR.normal(size=(2, 5, 4))
    model = fitted(MemoryBank(MemoryBankOptions()), bank)
    expected = cdist(patches.reshape(10, 4), bank).min(axis=1).reshape(2, 5)
    np.testing.assert_allclose(scores(model, patches), expected, rtol=1e-6)
    assert sum(tensor.nbytes for tensor in model.state().values()) == bank.nbytes


def test_position_gaussian_is_scipys_mahalanobis_distance():
    known, patches = GENERATOR.normal(size=(12, 3, 5)), GENERATOR.normal(size=(2, 3, 5))
    model = PositionGaussian(PositionGaussianOptions(channels=3, ridge=0.1))
    model.fit(lambda: iter([known[:7], known[7:]]), 12, np.random.default_rng(0), 0)
    channels = model.arrays["channels"]
    assert len(set(channels)) == 3
    found = scores(model, patches)
    for position in range(3):
        of_position = known[:, position][:, channels]
        inverse = np.linalg.inv(np.cov(of_position.T) + 0.1 * np.eye(3))
        for image in range(2):
            expected = mahalanobis(patches[image, position, channels], of_position.mean(axis=0), inverse)
            assert found[image, position] == pytest.approx(expected, rel=1e-6)


def test_position_gaussian_keeps_all_channels_where_there_are_few():
    model = PositionGaussian(PositionGaussianOptions(channels=64))
    model.fit(lambda: iter([GENERATOR.normal(size=(4, 2, 5))]), 4, np.random.default_rng(0), 0)
    assert model.arrays["channels"].tolist() == [0, 1, 2, 3, 4]


def test_a_dictionary_of_as_many_words_as_patches_knows_each_of_them():
    patches = np.repeat(np.eye(4) * 10, 20, axis=0)
    model = fitted(FeatureDictionary(FeatureDictionaryOptions(words=4, explained=0.999)), patches)
    np.testing.assert_allclose(scores(model, patches[None, ::20]), 0, atol=1e-4)
    # The middle of all four words is equally far from each: 10 * sqrt(3) / 2.
    assert scores(model, np.full((1, 1, 4), 2.5))[0, 0] == pytest.approx(10 * np.sqrt(3) / 2, rel=1e-3)


def test_a_dictionary_is_scikit_learns_components_and_clusters():
    patches, others = (
        GENERATOR.normal(size=(80, 6)) * np.array([9, 5, 3, 1, 0.1, 0.1]),
        GENERATOR.normal(size=(2, 5, 6)),
    )
    model = fitted(FeatureDictionary(FeatureDictionaryOptions(words=5, explained=0.9)), patches, seed=3)
    reduction = PCA(0.9, svd_solver="full").fit(patches)
    words = MiniBatchKMeans(5, random_state=3, n_init=3).fit(reduction.transform(patches)).cluster_centers_
    expected = cdist(reduction.transform(others.reshape(10, 6)), words).min(axis=1).reshape(2, 5)
    np.testing.assert_allclose(scores(model, others), expected, rtol=1e-6)


def test_nearest_centre_of_two_clusters_is_the_distance_to_the_nearer_mean():
    around = GENERATOR.normal(scale=0.01, size=(20, 3))
    patches = np.concatenate([around - around.mean(axis=0), around - around.mean(axis=0) + 10])
    model = fitted(NearestCentre(NearestCentreOptions(centres=2)), patches)
    others = np.array([[[0.0, 0, 3], [10, 10, 6], [5, 5, 5]]])
    np.testing.assert_allclose(scores(model, others)[0], [3, 4, 75**0.5], rtol=1e-2)
    assert sum(tensor.nbytes for tensor in model.state().values()) == 2 * 3 * 8


def test_one_class_svm_is_scikit_learns_decision_function():
    patches, others = GENERATOR.normal(size=(60, 4)) * 3, GENERATOR.normal(size=(2, 5, 4)) * 4
    model = fitted(PatchSvm(PatchSvmOptions(nu=0.2)), patches)
    library = OneClassSVM(nu=0.2).fit(patches)
    np.testing.assert_allclose(
        scores(model, others), -library.decision_function(others.reshape(10, 4)).reshape(2, 5), atol=1e-6
    )
    np.testing.assert_allclose(model.lowest, -library.dual_coef_.sum() - library.intercept_[0])
    assert (scores(model, patches[None]) > model.lowest).all()


ALL_OPTIONS = [
    MemoryBankOptions(patches=9),
    PositionGaussianOptions(channels=3),
    FeatureDictionaryOptions(words=3),
    NearestCentreOptions(centres=3),
    PatchSvmOptions(),
]


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=lambda options: type(options).__name__)
def test_a_restored_model_scores_alike(options):
    model, restored = new_patch_model(options), new_patch_model(options)
    known = GENERATOR.normal(size=(12, 6, 5)).astype(np.float32)
    model.fit(lambda: iter([known[:7], known[7:]]), 12, np.random.default_rng(0), 0)
    restored.load_state({name: tensor.clone() for name, tensor in model.state().items()})
    others = GENERATOR.normal(size=(3, 6, 5)).astype(np.float32)
    np.testing.assert_array_equal(scores(restored, others), scores(model, others))


def test_options_choose_the_model():
    expected = [MemoryBank, PositionGaussian, FeatureDictionary, NearestCentre, PatchSvm]
    assert [type(new_patch_model(options)) for options in ALL_OPTIONS] == expected
