"""Resident memory seen from outside."""

import time

import numpy as np
import pytest

from kdad.comparison.memory import ResidentRise


def test_a_large_array_is_seen():
    with ResidentRise() as resident:
        held = np.ones(8_000_000)
        time.sleep(0.2)  # many looks: what is freed before the first would be missed
        del held
    assert resident.peak == pytest.approx(64e6, rel=0.25)


def test_the_watcher_ends_when_the_block_fails():
    with pytest.raises(ValueError, match="inside"), ResidentRise() as resident:
        raise ValueError("inside")
    assert not resident._thread.is_alive()
