"""STFPM: what learns, what the map is, and what is refused."""

import numpy as np
import pytest
import torch

from kdad.detectors.feature_distance import location_distance
from kdad.detectors.stfpm.detector import StfpmDetector, pyramid_loss, pyramid_map
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.errors import InputError
from kdad.networks.weights import fingerprint_weights

ROWS = np.array([3, 0, 5])


def settings(**changed) -> StfpmSettings:
    training = {"epochs": 3, "batch_size": 4, "optimiser": "sgd", "learning_rate": 0.1}
    source = {"name": "timm:test_resnet", "weights": "random"}
    return StfpmSettings(stfpm={"source": source, "training": training} | changed)


def test_the_map_is_that_of_source_and_student_at_the_chosen_points(fit):
    made = fit(StfpmDetector, settings(points="first 2"))
    images = made.feature_set.batch(ROWS)
    source = made.detector.frozen["source"].module
    with torch.no_grad():
        expected = pyramid_map(source(images)[:2], made.detector.student(images), made.detector.size)
    found = made.detector.maps(images).maps["feature_distance"]
    assert found.shape == (3, 32, 48)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_the_map_is_standardised_at_each_pixel_where_asked(fit):
    made, plain = (fit(StfpmDetector, settings(normalisation=name)) for name in ("per_pixel", "none"))
    rows = (plain.feature_set.split.rows(part) for part in ("train", "test"))
    training, test = (
        plain.detector.maps(plain.feature_set.batch(one)).maps["feature_distance"].numpy() for one in rows
    )
    expected = (test - training.mean(0)) / (training.std(0) + 0.2 * training.std())
    found = made.detector.maps(made.feature_set.batch(made.feature_set.split.rows("test"))).maps["feature_distance"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert plain.fitting.reused  # one student serves both
    with pytest.raises(ValueError, match=r"its stfpm\.normalisation is none"):
        plain.detector.load_state(made.detector.state_dict(), {})


def test_the_student_learns_and_the_source_does_not(fit):
    made = fit(StfpmDetector, settings())
    reference = made.detector.references["source"]
    assert fingerprint_weights(made.detector.frozen["source"].module) == reference.fingerprint
    assert fingerprint_weights(made.detector.student) != reference.fingerprint
    totals = made.fitting.history.query("split == 'training'")["value"]
    assert totals.iloc[-1] < totals.iloc[0]


def test_a_second_fit_finds_the_student_trained_and_another_seed_does_not(fit, train_context):
    first, again = (fit(StfpmDetector, settings()) for _ in range(2))
    other = fit(
        StfpmDetector, settings(), train_context=type(train_context)(train_context.compute, 1, train_context.models)
    )
    assert [made.fitting.reused for made in (first, again, other)] == [False, True, False]
    states = [made.detector.state_dict() for made in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_transformers_student_learns_and_both_hold_positions_of_the_images_size_in_what_is_exported(fit):
    training = {"epochs": 20, "batch_size": 4, "learning_rate": 0.003}
    made = fit(StfpmDetector, settings(source={"name": "timm:test_vit", "weights": "random"}, training=training))
    totals = made.fitting.history.query("split == 'training'")["value"]
    assert totals.iloc[-1] < 0.2 * totals.iloc[0]
    images, state = made.feature_set.batch(ROWS), made.detector.state_dict()
    with torch.no_grad():
        before = made.detector.maps(images).maps["feature_distance"]
        _, found = made.detector.graph()(images)
    networks = made.detector.frozen["source"].module.pyramid, made.detector.student.pyramid
    # 2 x 3 patches and the class token: runtimes differ in how they interpolate, so there is nothing to interpolate
    assert [tuple(network.pos_embed.shape) for network in networks] == [(1, 7, 64)] * 2
    assert torch.equal(found, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in made.detector.state_dict().items())


def test_a_point_that_the_source_does_not_have_is_refused_before_training(prepare):
    with pytest.raises(InputError, match=r"stfpm\.points: there is no critical point 'stage9'"):
        prepare(StfpmDetector, settings(points=["stage9"]))


def test_features_are_compared_at_length_one():
    source = torch.tensor([[[[3.0]], [[4.0]]]])  # (0.6, 0.8)
    student = torch.tensor([[[[5.0]], [[0.0]]]])  # (1, 0)
    # ((0.6 - 1)^2 + 0.8^2) / 2 = (0.16 + 0.64) / 2
    assert location_distance(source, student).item() == pytest.approx(0.4)
    assert location_distance(source, 7 * source).item() == pytest.approx(0.0, abs=1e-6)
    assert location_distance(source, -source).item() == pytest.approx(2.0)


def test_the_loss_is_a_mean_over_locations_and_a_sum_over_points():
    ones, other = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    ones[:, 0], other[:, 0, 0, 0], other[:, 1, 0, 1] = 1.0, 1.0, 1.0
    # equal at one of two locations, orthogonal (distance 1) at the other: 1/2, at both points
    assert pyramid_loss([ones, ones], [other, other]).tolist() == pytest.approx([1.0])


def test_the_map_is_the_product_of_the_points_maps():
    east, north = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    diagonal = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
    found = pyramid_map([east, east], [north, diagonal], (2, 3))
    # orthogonal: 1; at 45 degrees: 1 - cos = 1 - 2^-0.5
    torch.testing.assert_close(found, torch.full((1, 2, 3), 1 - 2**-0.5))
