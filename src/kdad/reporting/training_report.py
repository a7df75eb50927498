"""The page of a training: verdict, curves with a threshold that can be moved, every test image, and what made it."""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from kdad.metrics.names import METRICS
from kdad.parameters.written_names import printable
from kdad.reporting.console import category_rows
from kdad.reporting.html import embedded_svg, render_html
from kdad.reporting.overlays import encode_picture, heat_table, picture_of, thumbnail
from kdad.reporting.threshold_remarks import metric_tiles, missed_most, promise_tile, rate_intervals
from kdad.scoring.threshold import Threshold

#: What all pictures together may take, and about what a pixel of a JPEG of a rough texture does, in bytes.
_BUDGET, _BYTES_A_PIXEL = 15_000_000, 0.35
_SIDES = (48, 256)  # smallest and largest longer side of a picture
_MAP_SIDE = 96  # of a map, which is smooth
_QUALITY = 80


@dataclass(frozen=True)
class TestPictures:
    """The test images of a page, by position: `image(i)` `(3, H, W)` in [0, 1], `mask(i)` `(H, W)` bool or None.

    `maps` `(N, H, W)` are the smoothed ones of the first method, None for a system without; `limits` are the values
    that get the first and the last colour. All are of one `size` (H, W).
    """

    __test__ = False  # pytest takes it for tests

    image: Callable[[int], np.ndarray]
    mask: Callable[[int], np.ndarray | None]
    maps: np.ndarray | None
    limits: tuple[float, float] | None
    size: tuple[int, int]


def render_training_report(
    title: str,
    scores: pd.DataFrame,
    metrics: dict[str, Any],
    pictures: TestPictures,
    figures: dict[str, bytes],
    facts: list[tuple[str, str]],
    links: list[tuple[str, str]],
) -> str:
    """Return the page as one HTML file.

    `scores` has a row a scored image (id, label, kind, split, score), validation and test; `metrics` is what
    `write_metrics` gathered. `figures`, as SVG, stand below the images by their titles. `facts` say what was made of
    what; `links` are names and addresses, relative to the page or whole.
    """
    threshold = Threshold.model_validate(metrics["threshold"])
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    height, width = pictures.size
    return render_html(
        "kdad.reporting",
        "training_report",
        title=title,
        verdict=[*metric_tiles(metrics), promise_tile(threshold)],
        promise=threshold.statement(),
        remarks=metrics["remarks"],
        kinds=_kinds(metrics),
        categories=category_rows(metrics.get("categories", {})),
        test_normal=metrics["test_normal"],
        has_masks=metrics["localisation_left_out"] is None,
        has_maps=pictures.maps is not None,
        aspect=f"{width} / {height}",  # cards keep their size when their pictures are painted
        data=_script_json(_data(scores, test, threshold, pictures)),
        threshold=threshold.value,
        has_groups=bool(threshold.group_scores),
        figures=[(name, embedded_svg(figure)) for name, figure in figures.items()],
        facts=facts,
        links=links,
    )


def _kinds(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a kind of defect, those that are missed most first."""
    return [
        {
            "key": kind,
            "name": printable(kind).replace("_", " "),
            "images": of["images"],
            "found": of["found"],
            "image_auroc": METRICS["image_auroc"].text(of["image_auroc"]),
            "pro_auc": METRICS["pro_auc"].text(of["pro_auc"]),
        }
        for kind, of in missed_most(metrics["by_kind"])
    ]


def _data(scores: pd.DataFrame, test: pd.DataFrame, threshold: Threshold, pictures: TestPictures) -> dict[str, Any]:
    """Return what the page's script works on; a picture is the base64 of its file."""
    side = picture_side(len(test))
    images = []
    for position, row in enumerate(test.to_dict("records")):
        found = {"id": printable(row["id"]), "kind": row["kind"], "label": int(row["label"]), "score": row["score"]}
        found["image"] = _jpeg(pictures.image(position), side)
        if pictures.maps is not None and pictures.limits is not None:
            found["map"] = _heat_file(pictures.maps[position], pictures.limits)
        mask = pictures.mask(position) if row["label"] else None
        if mask is not None:
            found["mask"] = _mask_file(mask, side)
        images.append(found)
    return {
        "threshold": threshold.value,
        "intervals": [rate_intervals(int((test["label"] == label).sum())) for label in (0, 1)],
        "validation": scores.loc[scores["split"] == "validation", "score"].tolist(),
        "images": images,
        "heat": heat_table().tolist(),
        "limits": pictures.limits,
    }


def picture_side(count: int) -> int:
    """Return the longer side in pixels of so many pictures that their files stay within what the page may take."""
    side = math.isqrt(int(_BUDGET / max(count, 1) / _BYTES_A_PIXEL))
    return min(max(side, _SIDES[0]), _SIDES[1])


def _jpeg(image: np.ndarray, side: int) -> str:
    return _encode(thumbnail(picture_of(image), side), "JPEG", quality=_QUALITY)


def _heat_file(anomaly_map: np.ndarray, limits: tuple[float, float]) -> str:
    """Return a map as places in the table of colours, 0 to 255."""
    low, high = limits
    heat = np.clip((np.asarray(anomaly_map, np.float32) - low) / max(high - low, 1e-12), 0, 1)
    return _encode(thumbnail(Image.fromarray(np.rint(heat * 255).astype(np.uint8)), _MAP_SIDE), "PNG")


def _mask_file(mask: np.ndarray, side: int) -> str:
    grey = thumbnail(Image.fromarray(mask.astype(np.uint8) * 255), side)
    return _encode(grey.point(lambda value: 255 * (value >= 128)).convert("1"), "PNG")


def _encode(picture: Image.Image, form: str, **options: Any) -> str:
    return base64.b64encode(encode_picture(picture, form, optimize=True, **options)).decode()


def _script_json(data: dict[str, Any]) -> Markup:
    """Return JSON that no text in it can end the element of."""
    return Markup(json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
