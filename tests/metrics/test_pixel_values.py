"""Values of pixels held in a file and not in memory: every metric is the same."""

import numpy as np
import pytest

from kdad.metrics import pixel_values
from kdad.metrics.pixel_ranking import pixel_ap, pixel_auroc, rank_pixels
from kdad.metrics.pixel_values import in_chunks, split_values
from kdad.metrics.region_overlap import pro_curve
from kdad.storage import large_arrays


@pytest.fixture
def in_files(monkeypatch):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(pixel_values, "_CHUNK", 3)


def _stack():
    """Maps of few values, so that many tie at the limit of the curve too."""
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 4, (5, 8, 9)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[1:3, 2:5, 3:6] = True
    return masks, maps


def test_they_are_in_a_file_and_in_the_order_of_the_stack(in_files):
    masks, maps = _stack()
    normal, anomalous = split_values(masks, maps)
    assert isinstance(normal, np.memmap) and isinstance(anomalous, np.memmap)
    np.testing.assert_array_equal(normal, maps[~masks])
    np.testing.assert_array_equal(anomalous, maps[masks])


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 0.6, 1.0])
def test_metrics_do_not_change(monkeypatch, max_fpr):
    masks, maps = _stack()
    in_memory = rank_pixels(masks, maps)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    in_file = rank_pixels(masks, maps)
    assert (pixel_auroc(in_file), pixel_ap(in_file)) == (pixel_auroc(in_memory), pixel_ap(in_memory))
    curve, other = pro_curve(in_memory, max_fpr), pro_curve(in_file, max_fpr)
    np.testing.assert_array_equal(other.fpr, curve.fpr)
    np.testing.assert_array_equal(other.pro, curve.pro)


def test_values_are_looked_at_in_parts(in_files):
    assert [part.tolist() for part in in_chunks(np.arange(7))] == [[0, 1, 2], [3, 4, 5], [6]]
