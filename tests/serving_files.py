"""Files of images, and bodies of requests that hold them."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families


def png(value, height: int = 8, width: int = 8, kind: str = "PNG") -> bytes:
    """Return the content of a file of one grey value, or of an array `(H, W, 3)`."""
    pixels = np.full((height, width, 3), value, np.uint8) if np.isscalar(value) else value
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def text(value) -> str:
    """Return such a file as base64 text."""
    return base64.b64encode(png(value)).decode()


def split(*images: Any, **more: Any) -> bytes:
    """Return the body of a request with these images as ``dataframe_split``."""
    table = {"columns": ["image"], "data": [[image] for image in images]}
    return json.dumps({"dataframe_split": table, **more}).encode()


def sampled(metrics: str) -> dict[str, float]:
    """Return the numbers of a text of metrics as ``name{label="value"}``, labels by name."""
    found = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
