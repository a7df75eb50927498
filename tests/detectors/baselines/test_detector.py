"""A baseline as a detector: its maps and scores worked out apart, from the same images and outputs."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.errors import InputError
from kdad.features.network import FrozenNetwork
from memory_images import MemoryImages

TRAIN, SOME = [1, 2, 4, 7, 10, 11, 13, 16], np.array([5, 0, 17])
_SMALL = {"epochs": 1, "depth": 1, "width": 2, "latent": 2}  # of an autoencoder


def settings(
    detector: str, representation: str | None = None, options: dict | None = None, **block
) -> BaselineSettings:
    method = {"detector": detector, "representation": representation, "options": options or {}}
    return BaselineSettings(
        source={"name": "timm:test_resnet", "weights": "random"},
        features={"batch_size": 5},
        baselines={"methods": {"only": method}, "pixel_side": 8, **block},
    )


def source_outputs(fitted, rows) -> list[np.ndarray]:
    with torch.no_grad():
        found = fitted.detector.references["source"].open()(torch.from_numpy(fitted.feature_set.images.pixels[rows]))
    return [point.numpy() for point in found]


def test_nearest_neighbour_of_the_sources_means(fit):
    fitted = fit(BaselineDetector, settings("knn", "source", {"n_neighbors": 1}))
    known, others = (
        np.hstack([point.mean(axis=(2, 3)) for point in source_outputs(fitted, rows)]) for rows in (TRAIN, SOME)
    )
    scaler = StandardScaler().fit(known.astype(np.float64))
    expected = cdist(scaler.transform(others), scaler.transform(known)).min(axis=1)
    found = fitted.detector.maps(fitted.feature_set.batch(SOME)).scores["score"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_nearest_neighbour_of_pixels_does_not_look_through_the_source(fit, monkeypatch):
    fitted = fit(BaselineDetector, settings("knn", "pixels", {"n_neighbors": 1}))
    monkeypatch.setattr(FrozenNetwork, "outputs", lambda *_: pytest.fail("the source ran in vain"))
    small = torch.nn.functional.interpolate(
        torch.from_numpy(fitted.feature_set.images.pixels), (8, 8), mode="bilinear", antialias=True
    )
    vectors = StandardScaler().fit(small[TRAIN].flatten(1)).transform(small.flatten(1))
    expected = NearestNeighbors(n_neighbors=1).fit(vectors[TRAIN]).kneighbors(vectors[SOME])[0][:, 0]
    np.testing.assert_allclose(
        fitted.detector.maps(fitted.feature_set.batch(SOME)).scores["score"], expected, rtol=1e-3
    )


def grid_of(fitted, rows, chosen) -> np.ndarray:
    """Return the chosen outputs, each over its sd on training images, on the finest grid, `(N, h, w, C)`."""
    sd = [point.std() for point in source_outputs(fitted, TRAIN)]
    points = [torch.from_numpy(source_outputs(fitted, rows)[position] / sd[position]) for position in chosen]
    grid = max(point.shape[-2:] for point in points)
    enlarged = [torch.nn.functional.interpolate(point, grid, mode="bilinear") for point in points]
    return torch.cat(enlarged, dim=1).permute(0, 2, 3, 1).numpy().astype(np.float64)


def enlarged(scores: np.ndarray) -> np.ndarray:
    return torch.nn.functional.interpolate(
        torch.from_numpy(scores)[:, None], (32, 48), mode="bilinear", align_corners=False
    )[:, 0].numpy()


@pytest.mark.parametrize(("points", "chosen"), [(None, [0, 1, 2]), (["stage2"], [1])])
def test_a_memory_bank_of_all_patches_by_brute_force(fit, points, chosen):
    fitted = fit(BaselineDetector, settings("memory_bank", options={"patches": 10**6}, points=points))
    known, others = grid_of(fitted, TRAIN, chosen), grid_of(fitted, SOME, chosen)
    distances = cdist(others.reshape(-1, others.shape[-1]), known.reshape(-1, known.shape[-1])).min(axis=1)
    expected = enlarged(distances.reshape(others.shape[:3]))
    found = fitted.detector.maps(fitted.feature_set.batch(SOME)).maps["anomaly"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())


def test_a_gaussian_at_each_position_is_of_training_images(fit):
    fitted = fit(BaselineDetector, settings("position_gaussian", options={"channels": 3, "ridge": 0.5}))
    channels = fitted.detector.half.model.arrays["channels"]
    known, others = (grid_of(fitted, rows, [0, 1, 2])[..., channels] for rows in (TRAIN, SOME))
    expected = np.empty(others.shape[:3])
    for row, column in np.ndindex(*others.shape[1:3]):
        of_position = known[:, row, column]
        inverse = np.linalg.inv(
            EmpiricalCovariance().fit(of_position).covariance_ * len(TRAIN) / (len(TRAIN) - 1) + 0.5 * np.eye(3)
        )
        offset = others[:, row, column] - of_position.mean(axis=0)
        expected[:, row, column] = np.sqrt((offset @ inverse * offset).sum(axis=1))
    found = fitted.detector.maps(fitted.feature_set.batch(SOME)).maps["anomaly"]
    np.testing.assert_allclose(found, enlarged(expected), rtol=1e-3, atol=1e-4)


def test_an_autoencoders_map_is_its_residual(fit):
    fitted = fit(BaselineDetector, settings("l2_autoencoder", options=_SMALL))
    images = fitted.feature_set.batch(SOME)
    with torch.no_grad():
        expected = (fitted.detector.half.network(images) - images).square().mean(dim=1).numpy()
    np.testing.assert_allclose(fitted.detector.maps(images).maps["anomaly"], expected, rtol=1e-4, atol=1e-7)
    assert set(fitted.fitting.history["split"]) == {"training", "validation"}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("memory_bank", {"patches": 60}),
        ("position_gaussian", {"channels": 3, "ridge": 0.5}),
        ("feature_dictionary", {"patches": 60, "words": 3}),
        ("patch_kmeans", {"patches": 60, "centres": 3}),
        ("patch_ocsvm", {"patches": 60}),
        ("l2_autoencoder", _SMALL),
        ("ssim_autoencoder", _SMALL),
        ("variational_autoencoder", _SMALL),
    ],
)
def test_the_map_is_standardised_at_each_pixel_where_asked(fit, method, options):
    block = {"options": options, "smoothing": {"gaussian_sigma": 1.5}}
    made, plain = (
        fit(BaselineDetector, settings(method, **block, normalisation=name)) for name in ("per_pixel", "none")
    )
    rows = (plain.feature_set.split.rows(part) for part in ("train", "test"))
    training, test = (plain.detector.maps(plain.feature_set.batch(one)).maps["anomaly"] for one in rows)
    training = gaussian_filter(training.double(), (0, 1.5, 1.5))
    expected = (test - training.mean(0)) / (training.std(0) + 0.2 * training.std())
    found = made.detector.maps(made.feature_set.batch(made.feature_set.split.rows("test"))).maps["anomaly"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())


def test_moments_are_kept_and_those_that_do_not_fit_are_refused(fit):
    made, plain = (fit(BaselineDetector, settings("memory_bank", normalisation=of)) for of in ("per_pixel", "none"))
    (state, without), facts = (one.detector.state_dict() for one in (made, plain)), made.detector.metadata()
    assert set(state) - set(without) == {"moments.anomaly.mean", "moments.anomaly.spread"}
    with pytest.raises(ValueError, match=r"its baselines\.normalisation is none, and its moments differ"):
        plain.detector.load_state(dict(state), facts)
    with pytest.raises(ValueError, match=r"its baselines\.normalisation is per_pixel, and its moments differ"):
        made.detector.load_state(without, facts)
    small = {name: found[:4, :4] if name.startswith("moments.") else found for name, found in state.items()}
    with pytest.raises(ValueError, match=r"moments of \(4, 4\) for maps of \(32, 48\)"):
        made.detector.load_state(small, facts)


def test_a_network_serves_maps_of_both_kinds_which_are_kept_apart(fit):
    given = [{}, {"normalisation": "per_pixel"}, {"normalisation": "per_pixel", "smoothing": {"gaussian_sigma": 2.0}}]
    made = [fit(BaselineDetector, settings("l2_autoencoder", options=_SMALL, **block)) for block in given]
    assert [one.fitting.reused for one in made] == [False, True, True]
    assert len({one.detector.key for one in made}) == 1
    assert len({one.detector.raw_key(["anomaly"], one.feature_set) for one in made}) == 3


def test_a_method_of_whole_images_has_nothing_to_standardise(fit):
    plain, asked = (
        fit(BaselineDetector, settings("knn", "source", normalisation=name)) for name in ("none", "per_pixel")
    )
    assert asked.detector.state_dict().keys() == plain.detector.state_dict().keys()
    assert asked.detector.raw_key([], asked.feature_set) == plain.detector.raw_key([], plain.feature_set)
    found, expected = (one.detector.maps(one.feature_set.batch(SOME)).scores["score"] for one in (asked, plain))
    np.testing.assert_array_equal(found, expected)
    asked.detector.load_state(asked.detector.state_dict(), asked.detector.metadata())


def test_an_autoencoder_is_trained_once(fit):
    assert not fit(BaselineDetector, settings("ssim_autoencoder", options=_SMALL)).fitting.reused
    assert fit(BaselineDetector, settings("ssim_autoencoder", options=_SMALL)).fitting.reused
    assert not fit(BaselineDetector, settings("ssim_autoencoder", options=_SMALL | {"epochs": 2})).fitting.reused


def test_an_images_score_is_the_mean_of_the_highest_values(fit):
    detector = fit(BaselineDetector, settings("memory_bank", top_fraction=0.25)).detector
    maps = {"anomaly": torch.arange(8.0).view(1, 2, 4)}
    assert detector.image_score.of_images({}, maps).tolist() == [6.5]
    assert fit(BaselineDetector, settings("knn", "source")).detector.image_score.map_names == ()


def test_images_of_another_split_do_not_change_what_is_learnt(fit, images):
    changed = MemoryImages()
    for row, sample in enumerate(images.samples):
        if sample.subset != "train":
            changed.pixels[row] = 1 - changed.pixels[row]
    for given in (settings("kmeans", "pca", {"n_clusters": 2}), settings("position_gaussian")):
        states = [fit(BaselineDetector, given, images=found).detector.state_dict() for found in (images, changed)]
        assert states[0].keys() == states[1].keys()
        for name, tensor in states[0].items():
            torch.testing.assert_close(tensor, states[1][name], msg=name)


def test_the_key_knows_options_and_representation_and_the_seed_only_where_something_is_drawn(fit, train_context):
    def key(*arguments, seed=0, **block):
        place = train_context.__class__(train_context.compute, seed, train_context.models)
        return fit(BaselineDetector, settings(*arguments, **block), train_context=place).detector.key

    first = key("knn", "source", {"n_neighbors": 1})
    assert key("knn", "source", {"n_neighbors": 1}, seed=3) == first
    assert key("knn", "source", {"n_neighbors": 1}, top_fraction=0.5) == first  # of the score, not of what is learnt
    others = [key("knn", "source", {"n_neighbors": 2}), key("knn", "pixels", {"n_neighbors": 1})]
    others += [key("kmeans", "pixels", {"n_clusters": 2}, seed=seed) for seed in (0, 1)]
    others.append(key("kmeans", "pixels", {"n_clusters": 2}, pixel_side=4))
    assert len({first, *others}) == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (settings("knn", "source", {"neighbours": 1}), "baselines.methods.only: knn does not take these options"),
        (
            settings("l2_autoencoder", options={"depth": 5}),
            r"baselines.methods.only: depth 5 needs image sides that 32",
        ),
        (settings("memory_bank", points=["nowhere"]), "baselines.points names 'nowhere'; the source has"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_fitted(prepare, given, message):
    with pytest.raises(InputError, match=message):
        prepare(BaselineDetector, given)


def test_what_the_library_meets_in_the_images_names_the_method(fit):
    with pytest.raises(InputError, match=r"baselines.methods.only failed \(ValueError: .*leave it out with only: null"):
        fit(BaselineDetector, settings("kmeans", "source", {"n_clusters": 9}))


def test_only_methods_that_draw_depend_on_the_seed():
    assert not BaselineDetector.is_stochastic(settings("knn", "source"))
    assert BaselineDetector.is_stochastic(settings("kmeans", "source"))


def test_one_method_is_chosen_of_many_and_one_that_is_left_out_is_none():
    knn = {"detector": "knn", "representation": "source"}
    blocks = {"seed": 1, "baselines": {"pixel_side": 8, "methods": {"nearest": knn, "left_out": None}}}
    chosen = BaselineSettings.select_variant(blocks, "nearest", "paper_tables.methods.a")
    assert chosen == {"seed": 1, "baselines": {"pixel_side": 8, "methods": {"nearest": knn}}}
    assert BaselineSettings.select_variant(blocks, "left_out", "there") is None
    with pytest.raises(InputError, match=r"there: baselines.methods has no 'neares'; did you mean 'nearest'\?"):
        BaselineSettings.select_variant(blocks, "neares", "there")
    with pytest.raises(InputError, match=r"there: baselines.methods is None; give methods by name"):
        BaselineSettings.select_variant({"baselines": {"methods": None}}, "nearest", "there")


def test_a_table_says_what_a_method_is_and_sees():
    assert BaselineDetector.label(settings("knn", "pca")) == {"detector": "knn", "sees": "pca"}
    assert BaselineDetector.label(settings("memory_bank")) == {"detector": "memory_bank", "sees": "patches"}
    assert BaselineDetector.label(settings("l2_autoencoder")) == {"detector": "l2_autoencoder", "sees": "images"}


def test_a_table_says_whether_asked_for_standardising_has_a_map_to_act_on():
    labels = [
        BaselineDetector.label(settings(*given, normalisation="per_pixel"))["sees"]
        for given in (("memory_bank",), ("knn", "pca"))
    ]
    assert labels == ["patches, map standardised at each position", "pca, no map to standardise"]
