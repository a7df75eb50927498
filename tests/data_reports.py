"""A data report to render: four training images, two held out, three tested, with everything that can be odd."""

from typing import Any

import numpy as np
import pandas as pd

from kdad.images.checks import exact_pairs

_ROWS = [
    ("train/good/0.png", 0, "good", "train", "a"),
    ("train/good/1.png", 0, "good", "train", "b"),
    ("train/good/2.png", 0, "good", "train", "c"),
    ("train/good/3.png", 0, "good", "train", "d"),
    ("train/good/4.png", 0, "good", "validation", "e"),
    ("train/good/<b>&.png", 0, "good", "validation", "f"),
    ("test/good/0.png", 0, "good", "test", "a"),
    ("test/crack/0.png", 1, "crack", "test", "b"),
    ("test/crack/1.png", 1, "crack", "test", "g"),
]


def images_table() -> pd.DataFrame:
    """Return the table of images."""
    table = pd.DataFrame(_ROWS, columns=["id", "label", "kind", "split", "fingerprint"])
    return table.assign(
        has_mask=table["label"] == 1,
        height=[20] * 8 + [40],
        width=30,
        mode=["L"] * 8 + ["RGB"],
        values="8-bit",
        frames=1,
        deep=False,
        low=[10.0, 11, 12, 13, 14, 15, 16, 17, 18],
        high=[210.0, 211, 212, 213, 214, 215, 216, 217, 218],
        mask_pixels=[-1] * 7 + [1, 101],
        outlyingness=[1.0, 1.1, 0.9, 9.0, 1.0, 1.0, np.nan, np.nan, np.nan],
    )


def data_report() -> dict[str, Any]:
    """Return what the report says, without its images."""
    images = images_table()
    pairs, suspicious = exact_pairs(images), np.array([3])
    return {
        "title": "Data: folder / bottle",
        "facts": [("Images", "9"), ("Model's size", "16 x 16 (dataset.fit: resize)")],
        "images": images,
        "pairs": pairs,
        "suspicious": suspicious,
        "size": (16, 16),
    }


def image(row: int) -> np.ndarray:
    """Return the image of a row: grey from left to right, and brighter by row."""
    return np.broadcast_to(np.linspace(0, 0.5 + row / 20, 16, dtype=np.float32), (3, 16, 16))


def mask(row: int) -> np.ndarray:
    """Return the mask of a row: a square of four pixels."""
    return np.pad(np.ones((2, 2), bool), 7)
