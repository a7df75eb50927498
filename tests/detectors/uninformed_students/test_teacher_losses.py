"""L_k, L_m and L_c against arithmetic on paper, and what gradient descent on L_c does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.uninformed_students.teacher_losses import (
    compactness_loss,
    dense_knowledge_loss,
    knowledge_loss,
    metric_loss,
)

_FORMS = pytest.mark.parametrize("form", ["signed", "squared"])


def test_knowledge_loss_is_the_squared_distance_of_each_patch():
    decoded = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    embedding = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # (0, 2, 3): 0 + 4 + 9 = 13; the second is met exactly
    assert knowledge_loss(decoded, embedding).tolist() == [13.0, 0.0]


def test_dense_knowledge_loss_is_the_mean_of_squared_distances_over_the_positions_of_a_crop():
    decoded, target = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    decoded[0, :, 0, 0] = torch.tensor([0.0, 2.0, 3.0])  # 4 + 9 = 13 at one position of two, 1 at the other
    target[0, :, 0, 1] = torch.tensor([0.0, 1.0, 0.0])
    assert dense_knowledge_loss(decoded, target).tolist() == [7.0, 0.0]


def test_dense_knowledge_loss_of_one_position_is_that_of_a_patch():
    decoded, target = torch.rand(4, 5), torch.rand(4, 5)
    dense = dense_knowledge_loss(decoded[..., None, None], target[..., None, None])
    torch.testing.assert_close(dense, knowledge_loss(decoded, target))


def _triplet(anchor, positive, negative, margin=10.0) -> float:
    tensors = (torch.tensor([value], dtype=torch.float32) for value in (anchor, positive, negative))
    return metric_loss(*tensors, margin).item()


@pytest.mark.parametrize(
    ("negative", "expected"),
    [
        # d+ = 1. From (0, 2): d-(anchor) = 4 < d-(positive) = 1 + 4 = 5, so 10 + 1 - 4
        ((0, 2), 7.0),
        # From (3, 0): d-(anchor) = 9 > d-(positive) = 4, so 10 + 1 - 4
        ((3, 0), 7.0),
        # From (3, 2): d-(anchor) = 13 > d-(positive) = 8, so 10 + 1 - 8
        ((3, 2), 3.0),
        # From (-3, 1): d-(anchor) = 10 < d-(positive) = 17, so 10 + 1 - 10
        ((-3, 1), 1.0),
        # From (0, 4): d-(anchor) = 16: 10 + 1 - 16 is negative
        ((0, 4), 0.0),
    ],
)
def test_metric_loss_takes_the_nearer_negative_and_is_never_negative(negative, expected):
    assert _triplet((0, 0), (1, 0), negative) == expected


def test_metric_loss_has_the_margin_asked_for():
    assert _triplet((0, 0), (1, 0), (0, 2), margin=3.0) == 0.0
    assert _triplet((0, 0), (1, 0), (0, 2), margin=3.5) == 0.5


def test_metric_loss_has_a_value_for_each_triplet():
    anchor = torch.zeros(2, 2)
    negative = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    assert metric_loss(anchor, torch.tensor([[1.0, 0.0]] * 2), negative, 10.0).tolist() == [7.0, 0.0]


# Centred: (-1, 0, 1), (-1, 1, 0), (1, 0, -1); each of squared length 2.
_THREE = torch.tensor([[0.0, 2.0, 5.0], [1.0, 4.0, 4.0], [2.0, 3.0, 3.0]])


def test_compactness_of_two_channels_by_hand():
    # c_01 = (1 + 0 + 0) / 2, counted as c_01 and c_10; c_02 = -1
    for form, expected in (("signed", 1.0), ("squared", 0.5)):
        assert compactness_loss(_THREE[:, :2], form).item() == pytest.approx(expected, abs=1e-6)
    assert compactness_loss(_THREE[:, [0, 2]], "signed").item() == pytest.approx(-2.0, abs=1e-6)
    assert compactness_loss(_THREE[:, [0, 2]], "squared").item() == pytest.approx(2.0, abs=1e-6)


def test_compactness_of_three_channels_by_hand():
    # c_01 = 1/2, c_02 = -1, c_12 = -1/2
    assert compactness_loss(_THREE, "signed").item() == pytest.approx(2 * (0.5 - 1 - 0.5), abs=1e-6)
    assert compactness_loss(_THREE, "squared").item() == pytest.approx(2 * (0.25 + 1 + 0.25), abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(2, 6), st.floats(0.1, 100), st.floats(-10, 10))
def test_compactness_sums_the_correlations_of_numpy(seed, batch, channels, scale, shift):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(channels, channels))
    values = scale * generator.normal(size=(batch, channels)) @ mixing + shift
    correlations = np.corrcoef(values, rowvar=False)
    off_diagonal = correlations[~np.eye(channels, dtype=bool)]
    found = torch.from_numpy(values)
    assert compactness_loss(found, "signed").item() == pytest.approx(off_diagonal.sum(), abs=1e-6)
    assert compactness_loss(found, "squared").item() == pytest.approx(np.square(off_diagonal).sum(), abs=1e-6)


def _redundant(batch: int = 64, channels: int = 5) -> torch.Tensor:
    """Channels that are nearly one: a common signal and a little of their own."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(batch, 1, generator=generator, dtype=torch.float64)
    return common + 0.3 * torch.randn(batch, channels, generator=generator, dtype=torch.float64)


@_FORMS
def test_whitened_channels_have_no_compactness_loss(form):
    values = _redundant()
    centred = (values - values.mean(dim=0)).numpy()
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred)
    assert compactness_loss(values, form) > 0.8 * 5 * 4
    whitened = torch.from_numpy(centred @ vectors / np.sqrt(eigenvalues))
    assert abs(compactness_loss(whitened, form)) < 1e-9


def test_descent_on_the_squared_form_decorrelates():
    values = _redundant().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        compactness_loss(values, "squared").backward()
        optimiser.step()
    correlations = np.corrcoef(values.detach().numpy(), rowvar=False)
    assert np.abs(correlations[~np.eye(5, dtype=bool)]).max() < 0.1


def test_opposed_channels_lower_the_signed_form_only():
    opposed = torch.cat([_redundant(channels=1), -_redundant(channels=1)], dim=1)
    assert compactness_loss(opposed, "signed").item() == pytest.approx(-2)
    assert compactness_loss(opposed, "squared").item() == pytest.approx(2)


@_FORMS
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.0])
def test_a_constant_channel_correlates_with_none(form, constant):
    values = _redundant(channels=3).float()
    expected = compactness_loss(values[:, [0, 2]], form).item()
    values[:, 1] = constant
    values.requires_grad_()
    found = compactness_loss(values, form)
    found.backward()
    assert found.item() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(values.grad).all()


@_FORMS
def test_channels_that_are_all_constant_have_no_compactness_loss(form):
    values = torch.zeros(4, 3, requires_grad=True)
    found = compactness_loss(values, form)
    found.backward()
    assert found.item() == 0
    assert torch.isfinite(values.grad).all()
