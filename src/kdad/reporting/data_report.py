"""The data report: what a set of images is made of, and what is odd about it, before anything is trained.

A table of images has a row an image: id, label, kind, split, has_mask, and of its file height, width, mode, values,
frames, deep, low, high and two_values (empty for images that lie in no file each); mask_pixels (-1 without a mask) and
outlyingness (empty but for normal images that train or are held out).
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are used
from PIL import Image

from kdad.images.checks import across_parts, contradicting, told_by_files
from kdad.images.splits import PARTS, whole_name
from kdad.parameters.written_names import printable
from kdad.reporting.html import embedded, render_html
from kdad.reporting.overlays import encode_picture, picture_of, thumbnail
from kdad.reporting.training_report import picture_side

_SHOWN_PAIRS = 200
_SHOWN_IMAGES = 5000  # of more, evenly spaced ones of each part and kind
_VALUES = 3  # of a kind's files that are named
_SIDE = 160
_OUTLINE = (255, 64, 32)
_SMALLEST = 1  # a mask of so few pixels or less at the model's size is named


def render_data_report(
    title: str,
    facts: list[tuple[str, str]],
    images: pd.DataFrame,
    pairs: pd.DataFrame,
    suspicious: np.ndarray,
    size: tuple[int, int],
    image: Callable[[int], np.ndarray],
    mask: Callable[[int], np.ndarray | None],
) -> str:
    """Return the page as HTML, with every image (of very many those of `spaced_rows`) and what `warn_of` says of them.

    `images` is the table of images, `pairs` those that are there twice, `suspicious` the rows of normal images unlike
    the others. `image(row)` gives `(3, H, W)` in [0, 1], `mask(row)` `(H, W)` or None; each row is asked for once.
    """
    pictures, twice = _Pictures(images, image, mask), order_pairs(pairs)
    notes = images["outlyingness"].map(lambda value: "" if np.isnan(value) else f"{value:.1f}")
    sections = [
        ("Counts", ("part", "kind", "images", "with mask"), count_rows(images)),
        (
            "Files of each kind",
            ("kind", "part", "format", "height x width", "mode", "values", "lowest", "highest"),
            file_rows(images),
        ),
        (
            "Masks at the model's size",
            ("kind", "masks", "smallest, pixels", "median", "largest", "share"),
            mask_rows(images, size),
        ),
    ]
    return render_html(
        "kdad.reporting",
        "data_report",
        title=title,
        facts=facts,
        warnings=[printable(text) for text in warn_of(images, pairs, suspicious)],
        sections=[{"name": name, "header": header, "rows": rows} for name, header, rows in sections if rows],
        pairs=[pictures.pair(pair) for pair in twice.head(_SHOWN_PAIRS).to_dict("records")],
        pairs_left=max(len(pairs) - _SHOWN_PAIRS, 0),
        suspicious=[pictures.of(row, notes[row]) for row in suspicious.tolist()],
        sheet=[
            {
                "name": f"{PARTS[part]}, {printable(kind)}",
                "count": len(rows),
                "rows": [pictures.of(row, notes[row]) for row in spaced_rows(rows, len(images))],
            }
            for (part, kind), rows in images.groupby(["split", "kind"], sort=False).groups.items()
        ],
    )


def warn_of(report_images: pd.DataFrame, pairs: pd.DataFrame, suspicious: np.ndarray) -> list[str]:
    """Return what deserves a look before training, a line each."""
    said = []
    exact = pairs[pairs["how"] == "exact"]
    if len(found := contradicting(exact)):
        said.append(f"{len(found)} images are normal and, as the same file, anomalous")
    if len(found := across_parts(exact)):
        said.append(
            f"{len(found)} images are in two parts as the same file: the test asks for what was learnt by heart"
        )
    if len(found := across_parts(pairs[pairs["how"] == "near"])):
        said.append(f"{len(found)} pairs of images in two parts are nearly the same picture")
    if len(suspicious):
        names = ", ".join(report_images["id"].iloc[suspicious[:5]])
        said.append(
            f"{len(suspicious)} normal images are unlike the others, and may be anomalous: {names}"
            + (", ..." if len(suspicious) > 5 else "")
        )
    told = told_by_files(report_images.assign(subset=report_images["split"]))
    said += [f"normal and anomalous test images differ {text}; what is measured may be this" for text in told]
    masked = report_images[report_images["mask_pixels"] >= 0]
    if len(tiny := masked[(masked["mask_pixels"] <= _SMALLEST) & (masked["label"] == 1)]):
        said.append(f"{len(tiny)} masks have {_SMALLEST} pixel or none at the model's size; raise dataset.image_size")
    return said


def count_rows(images: pd.DataFrame) -> list[list[str]]:
    """Return images by part and kind."""
    counted = images.groupby(["split", "kind"], sort=False)["has_mask"].agg(["size", "sum"]).reset_index()
    return [
        [PARTS[row["split"]], printable(row["kind"]), f"{row['size']:,}", f"{int(row['sum']):,}"]
        for row in counted.to_dict("records")
    ]


def file_rows(images: pd.DataFrame) -> list[list[str]]:
    """Return what the files of each part and kind are, side by side: a label may be told by any of it.

    Empty where there are no files.
    """
    known = images.dropna(subset=["height"])
    rows = []
    for (part, kind), found in known.groupby(["split", "kind"], sort=False):
        endings = found["id"].map(lambda name: PurePosixPath(whole_name(name)).suffix.lower()[1:] or "none")
        sizes = found["height"].astype(int).astype(str) + " x " + found["width"].astype(int).astype(str)
        cells = [_counted(column) for column in (endings, sizes, found["mode"], found["values"])]
        limits = [f"{found['low'].min():,.4g}", f"{found['high'].max():,.4g}"]
        rows.append([printable(kind), PARTS[part], *cells, *limits])
    return rows


def _counted(values: pd.Series) -> str:
    """Return the commonest values, each with how many there are unless all are alike."""
    counts = values.value_counts()
    if len(counts) == 1:
        return str(counts.index[0])
    more = f" and {len(counts) - _VALUES} more" if len(counts) > _VALUES else ""
    return ", ".join(f"{value} ({count:,})" for value, count in counts.head(_VALUES).items()) + more


def mask_rows(images: pd.DataFrame, size: tuple[int, int]) -> list[list[str]]:
    """Return the masks' areas at the model's size by kind; share is of the image, in the median."""
    masked = images[(images["mask_pixels"] >= 0) & (images["label"] == 1)]
    whole = size[0] * size[1]
    rows = []
    for kind, found in masked.groupby("kind", sort=False)["mask_pixels"]:
        middle = found.median()
        cells = (f"{found.min():,}", f"{middle:,.0f}", f"{found.max():,}", f"{middle / whole:.2%}")
        rows.append([printable(kind), f"{len(found):,}", *cells])
    return rows


def order_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of images that are there twice, those in two parts or of two labels first."""
    serious = pd.concat([across_parts(pairs), contradicting(pairs)]).index.unique()
    return pd.concat([pairs.loc[serious], pairs.drop(serious)])


def spaced_rows(rows: pd.Index, images: int) -> list[int]:
    """Return which rows of a part and kind are shown, where a page has so many `images`: all, or evenly spaced ones."""
    shown = min(math.ceil(len(rows) * _SHOWN_IMAGES / images), len(rows))
    return rows[np.linspace(0, len(rows) - 1, shown).round().astype(int)].tolist()


def outline(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """Return the picture with the border of a mask `(H, W)`, of any size, drawn in it."""
    marked = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    inner = scipy.ndimage.binary_erosion(marked, np.ones((3, 3)))
    pixels = np.array(picture)
    pixels[marked & ~inner] = _OUTLINE
    return Image.fromarray(pixels)


class _Pictures:
    """Thumbnails of images and their masks, each drawn once; all together take what a page may."""

    def __init__(
        self, images: pd.DataFrame, image: Callable[[int], np.ndarray], mask: Callable[[int], np.ndarray | None]
    ) -> None:
        self._images, self._image, self._mask = images, image, mask
        self._side = min(picture_side(min(len(images), _SHOWN_IMAGES)), _SIDE)
        self._row_of = {name: row for row, name in enumerate(images["id"])}

    def of(self, row: int, note: str) -> dict[str, str]:
        """Return what the page shows of an image."""
        found = self._images.iloc[row]
        said = ", ".join(filter(None, (printable(found["kind"]), note)))
        return {"source": self._source(row), "name": printable(found["id"]), "note": said}

    def pair(self, pair: dict[str, str]) -> dict[str, Any]:
        """Return two images that are the same, side by side."""
        sides = [self.of(self._row_of[pair[side]], PARTS[pair[f"{side}_part"]]) for side in ("first", "second")]
        return {"how": pair["how"], "sides": sides}

    @cache  # noqa: B019  # as long as the page is made
    def _source(self, row: int) -> str:
        picture = thumbnail(picture_of(self._image(row)), self._side)
        mask = self._mask(row) if self._images["mask_pixels"].iloc[row] > 0 else None
        picture = picture if mask is None else outline(picture, mask)
        return embedded(encode_picture(picture, "JPEG", quality=85, subsampling=0), "jpeg")
