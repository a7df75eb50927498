"""What the page shows of an image: itself, and its heat map over it, no larger than a screen."""

from typing import Any

import numpy as np
from PIL import Image

from kdad.detectors.prediction import Prediction, colour_limits_of
from kdad.detectors.predictor import Predictor
from kdad.images.files.decoding import resize_image
from kdad.reporting.heat_maps import overlay_placed, thumbnail_size
from kdad.serving.answers import base64_png
from kdad.serving.intake import Prepared

_SIDE = 1024


def show(prepared: Prepared, prediction: Prediction, predictor: Predictor) -> dict[str, Any]:
    """Return ``picture`` and ``heat``, PNGs in base64, the latter None without a map; and the image's own size."""
    original = prepared.original
    height, width = original.shape[1:]
    across, down = thumbnail_size(width, height, _SIDE)
    small = resize_image(original, (down, across))
    said = {"height": height, "width": width, "picture": base64_png(_as_picture(small)), "heat": None}
    if prediction.map is not None:
        limits = predictor.colour_limits or colour_limits_of(prediction.map)
        placement = prepared.placement.of_size(down, across)
        said["heat"] = base64_png(overlay_placed(small, prediction.map, limits, placement))
    return said


def _as_picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.moveaxis(image, 0, -1) * 255).astype(np.uint8))
