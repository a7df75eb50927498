"""Overlays of photographs are made a band of rows at a time, which must not show."""

import numpy as np
from PIL import Image

from kdad.reporting import heat_map
from kdad.reporting.heat_map import blend_heat, overlay_heat


def test_an_overlay_in_bands_is_that_of_the_whole(monkeypatch):
    generator = np.random.default_rng(0)
    image, values = generator.random((3, 97, 50), dtype=np.float32), generator.random((7, 9), dtype=np.float32)
    enlarged = np.asarray(Image.fromarray(values).resize((50, 97), Image.Resampling.BILINEAR))
    whole = np.round(blend_heat(image, enlarged, (0.2, 0.9)) * 255)
    monkeypatch.setattr(heat_map, "_PIXELS_AT_ONCE", 50 * 8)  # the last band has one row
    banded = np.asarray(overlay_heat(image, values, (0.2, 0.9))).astype(float)
    # A pixel on the border between two of the 256 colours may fall to either.
    assert np.abs(banded - whole).max() <= 4
    assert (banded == whole).mean() > 0.99


def test_an_image_wider_than_a_band_can_be_drawn(monkeypatch):
    monkeypatch.setattr(heat_map, "_PIXELS_AT_ONCE", 4)
    assert overlay_heat(np.zeros((3, 5, 9), np.float32), np.zeros((2, 2), np.float32), (0, 1)).size == (9, 5)
