"""Arrays that lie in memory or in a file."""

import numpy as np
import pytest

from kdad import large_arrays
from kdad.large_arrays import zeros


def test_a_small_one_is_in_memory_and_a_large_one_in_a_file(monkeypatch):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 24)
    small, large = zeros([3, 2], np.float32), zeros([7], np.float32)
    assert type(small) is np.ndarray and isinstance(large, np.memmap)
    assert (small.shape, large.shape) == ((3, 2), (7,))
    for found in (small, large):
        assert found.dtype == np.float32 and not found.any()
        found[1] = 5
        assert found.sum() == 5 * found[1].size


@pytest.mark.parametrize("limit", [0, 100])
def test_one_of_no_values_is_in_memory(monkeypatch, limit):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", limit)
    assert zeros([0, 5], bool).shape == (0, 5)


def test_its_file_is_gone_with_it(monkeypatch, tmp_path):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = zeros([4], bool)
    assert isinstance(found, np.memmap)
    del found
    assert list(tmp_path.iterdir()) == []
