"""One number of a map."""

import numpy as np
import pytest

from kdad.scoring.map_score import map_scores

# 10 pixels each; the largest of the first are 9, 8, 7, of the second 5, 4.5, 4
_MAPS = np.array([[[1, 2, 3, 4, 5], [9, 8, 7, 6, 0]], [[5, 4.5, 4, 3.5, 3], [0, 0, 0, 0, 0]]], dtype=np.float32)


def test_maps_stay_on_disk_as_they_were(tmp_path):
    np.save(tmp_path / "maps.npy", _MAPS)
    stack = np.load(tmp_path / "maps.npy", mmap_mode="r")
    assert map_scores(stack, "map_top_mean", 0.3).tolist() == pytest.approx([8.0, 4.5])
    np.testing.assert_array_equal(np.load(tmp_path / "maps.npy"), _MAPS)
