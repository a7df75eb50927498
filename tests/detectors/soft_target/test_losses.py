"""Soft targets by hand on two classes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.soft_target.losses import UNLABELLED, best_offset, soft_target_terms, soften, softened_divergence

LOG_3 = math.log(3)


def test_softened_by_hand():
    # e^(ln 9 / 2) = 3: shares 3/4 and 1/4; at T = 1 they are 9/10 and 1/10.
    logits = torch.tensor([[math.log(9), 0.0]])
    torch.testing.assert_close(soften(logits, 2), torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(soften(logits, 1), torch.tensor([[0.9, 0.1]]))


def test_a_larger_temperature_is_softer():
    logits = torch.tensor([[3.0, 1.0, -2.0]])
    highest = [float(soften(logits, temperature).max()) for temperature in (0.5, 1, 2, 8, 100)]
    assert highest == sorted(highest, reverse=True)
    assert highest[-1] == pytest.approx(1 / 3, abs=0.02)


def test_divergence_by_hand():
    # Teacher (3/4, 1/4) at T = 1, student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = softened_divergence(torch.zeros(1, 2), torch.tensor([[LOG_3, 0.0]]), 1.0)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(softened_divergence(torch.tensor([[LOG_3, 0.0]]), torch.tensor([[LOG_3, 0.0]]), 3.0)) == pytest.approx(
        0, abs=1e-7
    )


def test_terms_by_hand():
    # At T = 2 the teacher's (2 ln 3, 0) is (3/4, 1/4); the student is even, so CE = ln 2 at any label.
    terms = soft_target_terms(
        torch.zeros(2, 2), torch.tensor([[2 * LOG_3, 0.0]] * 2), torch.tensor([1, UNLABELLED]), 2.0, 0.25
    )
    soft = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    torch.testing.assert_close(terms["soft"], torch.tensor([soft, soft]))
    torch.testing.assert_close(terms["hard"], torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(
        terms["total"], torch.tensor([0.25 * soft + 0.75 * math.log(2), 0.25 * soft]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_at_its_ends(alpha):
    terms = soft_target_terms(torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 2]), 3.0, alpha)
    torch.testing.assert_close(terms["total"], terms["soft"] if alpha else terms["hard"])


def test_the_gradient_keeps_its_scale_when_temperature_changes():
    # At high T the gradient of T^2 KL is (z_s - z_t) / K for logits of zero mean (section 2.1), whatever T is.
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 5, generator=generator)
    teacher -= teacher.mean()
    for temperature in (200.0, 1000.0):
        student = torch.zeros(1, 5, requires_grad=True)
        soft_target_terms(student, teacher, torch.tensor([0]), temperature, 1.0)["total"].sum().backward()
        torch.testing.assert_close(student.grad, -teacher / 5, rtol=0.01, atol=2e-3)


def accuracy(logits: torch.Tensor, labels: torch.Tensor, number: int, offset: float) -> int:
    shifted = logits.clone()
    shifted[:, number] += offset
    return int((shifted.argmax(1) == labels).sum())


def test_by_hand():
    # Class 0 takes the images from offsets 1, 2 and 5 on; the first two are of it, the last of class 1.
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 5.0]])
    assert best_offset(logits, torch.tensor([0, 0, 1]), 0) == 3.5


def test_a_class_that_takes_nothing_rightly_is_pushed_below_all():
    logits = torch.tensor([[3.0, 0.0], [2.0, 0.0]])
    offset = best_offset(logits, torch.tensor([1, 1]), 0)
    assert accuracy(logits, torch.tensor([1, 1]), 0, offset) == 2


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 10_000))
def test_no_other_offset_is_better(count, number, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    best = accuracy(logits, labels, number, best_offset(logits, labels, number))
    assert best >= max(accuracy(logits, labels, number, float(offset)) for offset in torch.linspace(-8, 8, 81))
