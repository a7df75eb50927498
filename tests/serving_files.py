"""Files of images, and bodies of requests that hold them."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image


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
