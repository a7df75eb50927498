"""One number an image."""

import numpy as np
import pytest

from kdad.parameters.scoring import DetectionParameters
from kdad.scoring.detection import image_scores

_LOSSES = np.array([0.3, 0.7])
# 10 pixels each; the largest of the first are 9, 8, 7, of the second 5, 4.5, 4
_MAPS = np.array([[[1, 2, 3, 4, 5], [9, 8, 7, 6, 0]], [[5, 4.5, 4, 3.5, 3], [0, 0, 0, 0, 0]]], dtype=np.float32)


@pytest.mark.parametrize(
    ("score", "fraction", "expected"),
    [
        ("total_loss", 0.3, [0.3, 0.7]),
        ("map_maximum", 0.3, [9.0, 5.0]),
        ("map_top_mean", 0.3, [8.0, 4.5]),  # (9 + 8 + 7) / 3 and (5 + 4.5 + 4) / 3
        ("map_top_mean", 0.01, [9.0, 5.0]),  # a tenth of a pixel is one pixel
        ("map_top_mean", 1.0, [4.5, 2.0]),  # all ten: 45 / 10 and 20 / 10
    ],
)
def test_scores_by_hand(score, fraction, expected):
    parameters = DetectionParameters(score=score, top_fraction=fraction)
    assert image_scores(_LOSSES, {"discrepancy": _MAPS}, parameters).tolist() == pytest.approx(expected)


def test_only_the_forward_map_detects():
    maps = {"gradients": 100 * _MAPS, "discrepancy": _MAPS}
    assert image_scores(_LOSSES, maps, DetectionParameters(score="map_maximum")).tolist() == [9.0, 5.0]


def test_maps_stay_on_disk_as_they_were(tmp_path):
    np.save(tmp_path / "maps.npy", _MAPS)
    stack = np.load(tmp_path / "maps.npy", mmap_mode="r")
    found = image_scores(_LOSSES, {"discrepancy": stack}, DetectionParameters(score="map_top_mean", top_fraction=0.3))
    assert found.tolist() == pytest.approx([8.0, 4.5])
    np.testing.assert_array_equal(np.load(tmp_path / "maps.npy"), _MAPS)
