"""Resident memory seen from outside."""

import numpy as np
import pytest

from kdad.comparison.memory import ResidentRise


def test_a_large_array_is_seen():
    with ResidentRise() as resident:
        np.ones(8_000_000).sum()
    assert resident.peak == pytest.approx(64e6, rel=0.25)


def test_the_watcher_ends_when_the_block_fails():
    with pytest.raises(ValueError, match="inside"), ResidentRise() as resident:
        raise ValueError("inside")
    assert not resident._thread.is_alive()
