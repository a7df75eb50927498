"""One number an image."""

import pytest
import torch

from kdad.scoring.image_score import ImageScore

_LOSSES = torch.tensor([0.3, 0.7], dtype=torch.float64)
# 10 pixels each; the largest of the first are 9, 8, 7, of the second 5, 4.5, 4
_MAPS = torch.tensor([[[1, 2, 3, 4, 5], [9, 8, 7, 6, 0]], [[5, 4.5, 4, 3.5, 3], [0, 0, 0, 0, 0]]])
_RAW = {"total_loss": _LOSSES, "other": 10 * _LOSSES}


@pytest.mark.parametrize(
    ("of", "rule", "fraction", "expected"),
    [
        ("total_loss", "raw", 0.3, [0.3, 0.7]),
        ("discrepancy", "map_maximum", 0.3, [9.0, 5.0]),
        ("discrepancy", "map_top_mean", 0.3, [8.0, 4.5]),  # (9 + 8 + 7) / 3 and (5 + 4.5 + 4) / 3
        ("discrepancy", "map_top_mean", 0.01, [9.0, 5.0]),  # a tenth of a pixel is one pixel
        ("discrepancy", "map_top_mean", 1.0, [4.5, 2.0]),  # all ten: 45 / 10 and 20 / 10
    ],
)
def test_scores_by_hand(of, rule, fraction, expected):
    found = ImageScore(of, rule, fraction).of_images(_RAW, {"discrepancy": _MAPS})
    assert found.tolist() == pytest.approx(expected)


def test_only_the_named_map_or_raw_score_counts():
    maps = {"gradients": 100 * _MAPS, "discrepancy": _MAPS}
    assert ImageScore("discrepancy", "map_maximum").of_images(_RAW, maps).tolist() == [9.0, 5.0]
    assert ImageScore("other", "raw").of_images(_RAW, maps).tolist() == pytest.approx([3.0, 7.0])


def test_a_raw_score_needs_no_map():
    assert ImageScore("total_loss", "raw").map_names == ()
    assert ImageScore("discrepancy", "map_top_mean").map_names == ("discrepancy",)
    assert ImageScore("total_loss", "raw").of_images(_RAW, {}).tolist() == [0.3, 0.7]
