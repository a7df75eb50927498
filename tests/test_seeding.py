"""Streams of randomness that do not meet."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdad.seeding import derive_seed, numpy_generator, torch_seed


@given(st.integers(0, 2**63), st.lists(st.text(max_size=5) | st.integers(), max_size=3))
def test_a_seed_fits_every_generator_and_is_repeatable(seed, names):
    found = derive_seed(seed, *names)
    assert 0 <= found < 2**63
    assert derive_seed(seed, *names) == found


def test_seeds_are_distinct_by_seed_and_by_name():
    names = ["cloner", "order", "epoch", "initialisation", "smooth_grad", ""]
    keys = [(seed, *pair) for seed in range(10) for pair in itertools.product(names, range(20))]
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_numpy_generators_of_one_name_agree_and_of_others_do_not():
    first = numpy_generator(3, "order").random(4)
    assert (numpy_generator(3, "order").random(4) == first).all()
    assert (numpy_generator(3, "patches").random(4) != first).all()
    assert (numpy_generator(4, "order").random(4) != first).all()


@pytest.mark.parametrize("fails", [False, True])
def test_torch_seed_restores_the_stream_around_it(fails):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    try:
        with torch_seed(0, "inside"):
            first = torch.rand(3)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.equal(torch.rand(3), expected)
    with torch_seed(0, "inside"):
        assert torch.equal(torch.rand(3), first)
    with torch_seed(0, "elsewhere"):
        assert not torch.equal(torch.rand(3), first)
