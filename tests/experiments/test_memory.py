"""Resident memory seen from outside."""

import mmap
import time

import numpy as np
import pytest

from kdad.experiments.memory import ResidentRise


def test_a_large_array_is_seen():
    with ResidentRise() as resident:
        held = mmap.mmap(-1, 64_000_000)  # pages of its own, and not what earlier tests have freed
        np.frombuffer(held, dtype=np.uint8)[:] = 1
        time.sleep(0.2)  # many looks: what is freed before the first would be missed
    assert resident.peak == pytest.approx(64e6, rel=0.25)


def test_the_watcher_ends_when_the_block_fails():
    with pytest.raises(ValueError, match="inside"), ResidentRise() as resident:
        raise ValueError("inside")
    assert not resident._thread.is_alive()
