"""Small labelled images in place of the embedded digits, and coarse figures."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest

from kdad.images import published
from kdad.images.one_class import LabelledImages


@pytest.fixture(scope="session", autouse=True)
def _coarse_figures() -> Iterator[None]:
    """A run draws more than it computes here; how figures look is for tests of figures."""
    with mpl.rc_context({"savefig.dpi": 50}):
        yield


@pytest.fixture(scope="module")
def few_digits() -> Iterator[None]:
    """Thirty training and ten test images of each of ten classes that are easily told apart."""
    generator = np.random.default_rng(0)
    parts = []
    for count in (30, 10):
        classes = np.repeat(np.arange(10), count)
        pixels = generator.integers(0, 60, (len(classes), 28, 28), dtype=np.uint8)
        for row, number in enumerate(classes):
            pixels[row, 2 * number : 2 * number + 8, 5:23] += 180
        parts.append(LabelledImages(pixels, classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "_load_parts", lambda: tuple(parts))
        yield
