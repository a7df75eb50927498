"""The data report: what a set of images is made of, and what is odd about it, before anything is trained.

A table of images has a row an image: id, label, kind, split, has_mask, and of its file height, width, mode, values,
frames, deep, low, high and two_values (empty for images that lie in no file each); mask_pixels (-1 without a mask) and
outlyingness (empty but for normal images that train or are held out).
"""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image

from kdad.images.checks import across_parts, contradicting
from kdad.images.splits import PARTS
from kdad.parameters.written_names import printable
from kdad.reporting.html import embedded_png, render_html
from kdad.reporting.overlays import thumbnail

_SHOWN_ROWS = 200
_OF_A_KIND = 6
_SUSPICIOUS = 12
_SIDE = 120
_SMALLEST = 1  # a mask of so few pixels or less at the model's size is named


def render_data_report(
    title: str,
    facts: list[tuple[str, str]],
    images: pd.DataFrame,
    pairs: pd.DataFrame,
    suspicious: np.ndarray,
    size: tuple[int, int],
    image: Callable[[int], np.ndarray],
) -> str:
    """Return the page as HTML, with what `warn_of` says of it.

    `images` is the table of images, `pairs` those that are there twice, `suspicious` the rows of normal images unlike
    the others. `image(row)` gives `(3, H, W)` in [0, 1], and is asked for few rows.
    """
    suspects = suspicious[:_SUSPICIOUS]
    sections = [
        ("Counts", ("part", "kind", "images", "with mask"), count_rows(images)),
        ("Sizes and types", ("height x width", "mode", "values", "part", "images"), type_rows(images)),
        ("Ranges of values", ("part", "kind", "lowest", "highest", "images"), range_rows(images)),
        (
            "Masks at the model's size",
            ("kind", "masks", "smallest, pixels", "median", "largest", "share"),
            mask_rows(images, size),
        ),
        ("Images that are there twice", ("how", "one", "part", "other", "part"), pair_rows(pairs)),
    ]
    return render_html(
        "kdad.reporting",
        "data_report",
        title=title,
        facts=facts,
        warnings=[printable(text) for text in warn_of(images, pairs, suspicious)],
        sections=[{"name": name, "header": header, "rows": rows} for name, header, rows in sections if rows],
        pairs_left=max(len(pairs) - _SHOWN_ROWS, 0),
        suspicious=[
            _picture(images, row, image, f"{images['outlyingness'].iloc[row]:.1f}") for row in suspects.tolist()
        ],
        suspicious_left=len(suspicious) - len(suspects),
        sheet=[_picture(images, row, image, PARTS[images["split"].iloc[row]]) for row in sheet_rows(images)],
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


def type_rows(images: pd.DataFrame) -> list[list[str]]:
    """Return images by size, mode, values and part, the commonest first; empty where there are no files."""
    known = images.dropna(subset=["height"])
    counted = known.groupby(["height", "width", "mode", "values", "split"], sort=False).size()
    counted = counted.sort_values(ascending=False, kind="stable")
    return [
        [f"{int(height)} x {int(width)}", mode, values, PARTS[part], f"{count:,}"]
        for (height, width, mode, values, part), count in counted.head(_SHOWN_ROWS).items()
    ]


def range_rows(images: pd.DataFrame) -> list[list[str]]:
    """Return the values that files use, by part and kind; empty where there are no files."""
    known = images.dropna(subset=["low"])
    counted = known.groupby(["split", "kind"], sort=False).agg(
        low=("low", "min"), high=("high", "max"), n=("id", "size")
    )
    return [
        [PARTS[part], printable(kind), f"{row['low']:,.4g}", f"{row['high']:,.4g}", f"{int(row['n']):,}"]
        for (part, kind), row in counted.iterrows()
    ]


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


def pair_rows(pairs: pd.DataFrame) -> list[list[str]]:
    """Return the first pairs of images that are there twice, those in two parts first."""
    serious = pd.concat([across_parts(pairs), contradicting(pairs)]).index.unique()
    ordered = pd.concat([pairs.loc[serious], pairs.drop(serious)]).head(_SHOWN_ROWS)
    return [
        [
            row["how"],
            printable(row["first"]),
            PARTS[row["first_part"]],
            printable(row["second"]),
            PARTS[row["second_part"]],
        ]
        for row in ordered.to_dict("records")
    ]


def sheet_rows(images: pd.DataFrame) -> list[int]:
    """Return up to six rows of each part and kind, evenly spaced in their order."""
    chosen = []
    for _, found in images.groupby(["split", "kind"], sort=False).groups.items():
        places = np.linspace(0, len(found) - 1, min(_OF_A_KIND, len(found))).round().astype(int)
        chosen += [int(found[place]) for place in places]
    return chosen


def _picture(images: pd.DataFrame, row: int, image: Callable[[int], np.ndarray], note: str) -> dict[str, str]:
    pixels = np.rint(image(row).transpose(1, 2, 0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    thumbnail(Image.fromarray(pixels), _SIDE).save(buffer, format="PNG")
    found = images.iloc[row]
    return {
        "source": embedded_png(buffer.getvalue()),
        "name": printable(found["id"]),
        "note": f"{printable(found['kind'])}, {note}",
    }
