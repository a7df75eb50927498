import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.soft_target.class_offset import best_offset


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
