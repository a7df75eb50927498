"""Arrays that lie in memory or in a file."""

import gc
import resource

import numpy as np
import pytest

from kdad.storage import large_arrays
from kdad.storage.large_arrays import zeros


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
    found[1:] = True
    assert isinstance(found, np.memmap) and found.tolist() == [False, True, True, True]
    del found
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_its_file_it_is_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        found = zeros([3, 1 << 20], np.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert type(found) is np.ndarray and found.shape == (3, 1 << 20) and not found.any()
    assert list(tmp_path.iterdir()) == []
