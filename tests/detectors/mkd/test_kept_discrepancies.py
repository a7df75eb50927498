"""Discrepancies kept of batches are those of all images at once."""

import numpy as np
import pytest
import torch

from kdad.detectors.mkd.kept_discrepancies import KeptDiscrepancies
from kdad.detectors.mkd.parameters import DiscrepancyParameters
from kdad.detectors.mkd.point_map import Discrepancies


@pytest.mark.parametrize("form", ["per_location", "whole_vector"])
def test_batches_are_as_all_at_once(form):
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 4, 6, 8), (7, 6, 3, 4)]
    source, *cloners = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3))
    mean = [(one + other) / 2 for one, other in zip(*cloners, strict=True)]
    loss = DiscrepancyParameters(direction_form=form)

    def found(rows: slice) -> Discrepancies:
        parts = [[one[rows] for one in every] for every in (source, mean, *cloners)]
        return Discrepancies(parts[0], parts[1], loss, parts[2:])

    wanted = [("direction", "discrepancy"), ("total", "disagreement")]
    kept = KeptDiscrepancies.of((found(slice(start, start + 3)) for start in (0, 3, 6)), wanted, 2)
    every = found(slice(None))
    for term, quantity in wanted:
        for one, other in zip(kept.maps(term, [1, 0], quantity), every.maps(term, [1, 0], quantity), strict=True):
            torch.testing.assert_close(one, other)
    torch.testing.assert_close(kept.total([0, 1]), every.total([0, 1]))
    torch.testing.assert_close(kept.total([1]), every.total([1]))


def test_rows_and_batches_keep_the_order():
    kept = KeptDiscrepancies(
        {("discrepancy", "total", 0): torch.arange(5.0).reshape(5, 1, 1)}, [torch.arange(5.0) * 10]
    )
    chosen = kept.rows(np.array([True, False, False, True, True]))
    assert chosen.total([0]).tolist() == [0, 30, 40]
    assert chosen.maps("total", [0])[0].flatten().tolist() == [0, 3, 4]
    assert [part.total([0]).tolist() for part in kept.batches(2)] == [[0, 10], [20, 30], [40]]
