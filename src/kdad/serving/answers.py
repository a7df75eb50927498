"""What is said of an image: numbers, and its map as a picture."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from kdad.detectors.predictor import Prediction, Predictor, colour_limits_of
from kdad.errors import InputError
from kdad.images.files.fitting import Placement
from kdad.reporting.overlays import encode_picture
from kdad.scoring.threshold import Threshold


@contextmanager
def naming_row(number: int) -> Iterator[None]:
    """Have what is wrong with a row say which row it is."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"row {number}: {error}") from error


def answer(prediction: Prediction, predictor: Predictor, placement: Placement, with_map: bool) -> dict[str, Any]:
    """Return ``score``, ``threshold``, ``decision`` (1: anomalous), and ``map``: a PNG in base64, None without one.

    Raises `InputError` for a score or a map that is not finite, and so says nothing.
    """
    prediction.require_finite()
    prediction = prediction.as_placed(placement) if with_map else prediction
    said = {"score": prediction.score, "threshold": prediction.threshold, "decision": int(prediction.decision)}
    if with_map:
        said["map"] = None if prediction.map is None else base64_png(map_picture(prediction.map, predictor, placement))
    return said


def add_group(rows: list[dict[str, Any]], threshold: Threshold) -> None:
    """Give the answers for all images of one part the score and the decision of that, ``group_score`` and the like.

    Raises `InputError` where the threshold decides on images alone.
    """
    score, is_anomalous = threshold.of_group(np.array([row["score"] for row in rows]))
    for row in rows:
        row |= {"group_score": score, "group_decision": int(is_anomalous)}


def map_picture(anomaly_map: np.ndarray, predictor: Predictor, placement: Placement) -> Image.Image:
    """Return a map in grey at the size of the image that was sent: 0 and 255 are the predictor's limits of colours.

    What the detector was not shown is 0.
    """
    low, high = predictor.colour_limits or colour_limits_of(anomaly_map)
    shown = placement.shown.cut(np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1))
    grey = Image.fromarray(np.rint(shown * 255).astype(np.uint8))
    seen = placement.seen
    grey = grey.resize((seen.width, seen.height), Image.Resampling.BILINEAR)
    if (seen.height, seen.width) == placement.own:
        return grey
    whole = Image.new("L", (placement.own[1], placement.own[0]))
    whole.paste(grey, (seen.left, seen.top))
    return whole


def base64_png(picture: Image.Image) -> str:
    """Return a picture as a PNG in base64 text."""
    return base64.b64encode(encode_picture(picture, compress_level=1)).decode("ascii")
