"""Images as vectors, and each baseline of them against its library, called directly on the same arrays."""

import numpy as np
import pytest
import torch
import yaml
from pyod.models.anogan import AnoGAN
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.vae import VAE
from scipy.special import logsumexp
from skimage.transform import downscale_local_mean
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from kdad.detectors.baselines.image_models import Representation, fit_detector, restore_detector, state_of_detector
from kdad.detectors.baselines.parameters import MAP_DETECTORS, BaselineMethodParameters
from kdad.errors import InputError
from projects import PROJECT

GENERATOR = np.random.default_rng(0)
KNOWN = GENERATOR.normal(size=(40, 6)).astype(np.float32)
OTHERS = GENERATOR.normal(size=(15, 6)).astype(np.float32) * 2


def scikit_learn(name: str) -> np.ndarray:
    """Score with scikit-learn alone, larger being more anomalous."""
    if name == "kde":
        return -KernelDensity(bandwidth=0.7).fit(KNOWN).score_samples(OTHERS)
    if name == "gmm":
        return -GaussianMixture(2, covariance_type="diag", random_state=3).fit(KNOWN).score_samples(OTHERS)
    if name == "knn":
        return NearestNeighbors(n_neighbors=1).fit(KNOWN).kneighbors(OTHERS)[0][:, 0]
    if name == "lof":
        return -LocalOutlierFactor(n_neighbors=5, novelty=True).fit(KNOWN).score_samples(OTHERS)
    if name == "ocsvm":
        return -OneClassSVM(nu=0.2).fit(KNOWN).decision_function(OTHERS)
    if name == "kmeans":
        centres = KMeans(3, random_state=0).fit(KNOWN).cluster_centers_
        return np.linalg.norm(OTHERS[:, None] - centres, axis=2).min(axis=1)
    basis = PCA(2, random_state=0).fit(KNOWN)
    offset = OTHERS - basis.mean_
    return ((offset - offset @ basis.components_.T @ basis.components_) ** 2).mean(axis=1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kde", {"bandwidth": 0.7}),
        ("gmm", {"n_components": 2, "covariance_type": "diag", "random_state": 3}),
        ("knn", {"n_neighbors": 1}),
        ("lof", {"n_neighbors": 5}),
        ("ocsvm", {"nu": 0.2, "gamma": "scale"}),
        ("kmeans", {"n_clusters": 3}),
        ("pca_reconstruction", {"n_components": 2}),
    ],
)
def test_scores_are_scikit_learns(name, options):
    found = fit_detector(name, KNOWN, options, 0)(OTHERS)
    np.testing.assert_allclose(found, scikit_learn(name), rtol=1e-3, atol=1e-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("name", "build", "options"),
    [
        ("auto_encoder", lambda o: AutoEncoder(random_state=5, verbose=0, device="cpu", **o), {"epoch_num": 2}),
        ("vae", lambda o: VAE(random_state=5, verbose=0, device="cpu", **o), {"epoch_num": 2}),
        ("deep_svdd", lambda o: DeepSVDD(n_features=6, random_state=5, verbose=0, **o), {"epochs": 2}),
        ("anogan", lambda o: AnoGAN(**o), {"epochs": 1, "epochs_query": 2}),
    ],
)
def test_scores_are_pyods(name, build, options):
    detector = build(options)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    if name == "anogan":
        detector.fit(KNOWN)
        expected = detector.decision_function(OTHERS)
        found = fit_detector(name, KNOWN, options, 5)(OTHERS)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        return
    found = fit_detector(name, KNOWN, options, 5)(OTHERS)
    again = fit_detector(name, KNOWN, options, 5)(OTHERS)
    np.testing.assert_allclose(found, again)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    detector.fit(KNOWN)
    np.testing.assert_allclose(found, score_with(detector, name), rtol=1e-3, atol=1e-4)


def score_with(detector, name: str) -> np.ndarray:
    """Score with PyOD alone, its VAE, which samples, from one seed for each vector."""
    if name != "vae":
        return detector.decision_function(OTHERS)
    found = []
    for vector in OTHERS:
        torch.manual_seed(5)
        found.append(detector.decision_function(vector[None])[0])
    return np.array(found)


def test_an_option_that_the_library_does_not_have():
    with pytest.raises(InputError, match=r"knn does not take these options \(.*neighbours"):
        fit_detector("knn", KNOWN, {"neighbours": 2}, 0)


def test_kde_of_the_configuration_is_exact_in_many_dimensions():
    text = (PROJECT / "conf/base/parameters/baselines.yml").read_text()
    options = yaml.safe_load(text)["baselines"]["methods"]["kde_pca"]["options"]
    generator = np.random.default_rng(0)
    known, others = generator.normal(size=(200, 64)), generator.normal(1.0, 2.0, size=(30, 64))
    distances = ((others[:, None] - known) ** 2).sum(-1)
    expected = -logsumexp(-distances / 2, axis=1)
    found = fit_detector("kde", known, options, 0)(others)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), [("kde", {}), ("knn", {}), ("lof", {"n_neighbors": 5}), ("ocsvm", {})])
def test_detectors_that_draw_nothing_score_alike_with_every_seed(name, options):
    assert not BaselineMethodParameters(detector=name, representation="pca").is_stochastic
    scores = [fit_detector(name, KNOWN, options, seed)(OTHERS) for seed in (0, 7)]
    np.testing.assert_array_equal(*scores)


def test_detectors_that_draw_depend_on_the_seed():
    assert BaselineMethodParameters(detector="kmeans", representation="pca").is_stochastic
    scores = [fit_detector("kmeans", KNOWN, {"n_clusters": 8, "n_init": 1}, seed)(OTHERS) for seed in (0, 7)]
    assert not np.allclose(*scores)


DENSE = {"dropout_rate": 0.5, "hidden_neuron_list": [5, 3], "batch_norm": False}
AS_THEY_ARE = [
    ("kde", {"bandwidth": 0.7}),
    ("knn", {"n_neighbors": 2}),
    ("lof", {"n_neighbors": 5}),
    ("ocsvm", {"nu": 0.2}),
    ("gmm", {"n_components": 2}),
    *(("gmm", {"n_components": 3, "covariance_type": kind}) for kind in ("full", "diag", "tied", "spherical")),
    ("kmeans", {"n_clusters": 3}),
    ("pca_reconstruction", {}),
    ("pca_reconstruction", {"n_components": 2, "whiten": True}),
    ("pca_reconstruction", {"n_components": 2, "svd_solver": "arpack"}),
    ("pca_reconstruction", {"n_components": 0.9}),
    ("auto_encoder", {"epoch_num": 2}),
    ("auto_encoder", {"epoch_num": 2, "preprocessing": False, "batch_size": 400}),
    ("auto_encoder", {"epoch_num": 2, **DENSE}),
    ("vae", {"epoch_num": 2}),
    ("vae", {"epoch_num": 2, "preprocessing": False, "dropout_rate": 0.5, "latent_dim": 3, "batch_norm": True}),
    ("deep_svdd", {"epochs": 2}),
    ("deep_svdd", {"epochs": 2, "preprocessing": False, "dropout_rate": 0.5, "hidden_neurons": [5, 3]}),
    ("deep_svdd", {"epochs": 2, "use_ae": True, "hidden_neurons": [5, 3], "c": 0.3}),
    ("anogan", {"epochs": 1, "epochs_query": 2}),
    ("anogan", {"epochs": 1, "preprocessing": True, "dropout_rate": 0.5, "latent_dim_G": 3}),
]


def restored(name, fitted, vectors, options, seed):
    state = {key: tensor.clone() for key, tensor in state_of_detector(fitted, vectors).items()}
    return restore_detector(name, vectors.shape[1], options, seed, state)


@pytest.mark.sample(8)
@pytest.mark.parametrize(("name", "options"), AS_THEY_ARE)
def test_a_restored_detector_scores_alike(name, options):
    known = KNOWN * 3 + 2  # neither centred nor of sd 1: a scaler of the detector's own has something to do
    fitted = fit_detector(name, known, options, 7)
    expected = fitted(OTHERS)
    found = restored(name, fitted, known, options, 7)
    np.testing.assert_allclose(found(OTHERS), expected, rtol=1e-6, atol=1e-6)
    assert np.std(expected) > 1e-9 or options == {}  # all components reconstruct everything


@pytest.mark.parametrize(
    ("name", "options", "features"),
    [
        ("kmeans", {"n_clusters": 300, "n_init": 1}, 6),
        ("gmm", {"n_components": 270, "covariance_type": "diag"}, 6),
        ("gmm", {"n_components": 1, "reg_covar": 0.1}, 300),
        ("pca_reconstruction", {"n_components": 290}, 300),
    ],
)
def test_a_restored_detector_of_many_components_or_features_scores_alike(name, options, features):
    generator = np.random.default_rng(3)
    known, others = (generator.normal(size=(count, features)).astype(np.float32) for count in (310, 9))
    fitted = fit_detector(name, known, options, 0)
    found = restored(name, fitted, known, options, 0)
    np.testing.assert_allclose(found(others), fitted(others), rtol=1e-6, atol=1e-6)


@pytest.mark.sample(8)
@pytest.mark.parametrize(("name", "options"), AS_THEY_ARE)
def test_a_vector_has_one_score_whichever_are_beside_it(name, options):
    fitted = fit_detector(name, KNOWN, options, 7)
    alone = np.concatenate([fitted(vector[None]) for vector in OTHERS[::-1]])[::-1]
    np.testing.assert_allclose(alone, fitted(OTHERS), rtol=1e-5, atol=1e-5)


def test_every_detector_of_whole_images_is_restored_here():
    names = set(BaselineMethodParameters.model_fields["detector"].annotation.__args__) - set(MAP_DETECTORS)
    assert {name for name, _ in AS_THEY_ARE} == names


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
