"""Parts in any pose: each image is turned about its middle until it lies as the training images' mean does.

scikit-image is imported by what needs it, since it takes half a second.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from kdad.images.files.decoding import resize_image
from kdad.parameters.strict import StrictModel

_ANGLES, _RADII = 360, 32
_ROUNDS = 4  # of turning all to their mean, and taking that anew


class Alignment(StrictModel):
    """How the training images lie, as text, so that a detector's facts hold it."""

    model_config = ConfigDict(frozen=True)

    packed: str = Field(description="base64 of zlib of their mean in grey: 360 angles of 32 radii, a byte each")

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Self:
        """Return how images `(3, H, W)` lie on the whole, once all are turned as the first."""
        polar = np.stack([_polar(image) for image in images])
        mean = polar[0]
        for _ in range(_ROUNDS):
            spectrum = _spectrum(mean)
            mean = np.mean([np.roll(one, -_angle(one, spectrum), axis=0) for one in polar], axis=0)
        content = zlib.compress(np.rint(mean * 255).astype(np.uint8).tobytes(), 9)
        return cls(packed=b64encode(content).decode("ascii"))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        try:
            _unpacked(self.packed)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"the alignment cannot be read ({error})") from None
        return self

    def angle(self, image: np.ndarray) -> float:
        """Return by how many degrees anticlockwise an image `(3, H, W)` is to be turned, in [0, 360).

        Where its correlation with the mean is highest, both in polar coordinates about the middle (Fourier shift
        theorem along the angle). It is not whitened, as phase correlation is: noise of smooth parts would decide.
        """
        return float(_angle(_polar(image), _unpacked(self.packed)))


def turn(
    planes: np.ndarray,
    degrees: float,
    stretch: float = 1.0,
    middle: tuple[float, float] | None = None,
    *,
    nearest: bool = False,
    fill: float | None = None,
) -> np.ndarray:
    """Return `(C, H, W)` turned anticlockwise about its middle; what comes from outside is `fill`, None: its border.

    `stretch` is how much wider its pixels make things than taller, of a picture that was resized to other proportions.
    Another `middle` (x, y) counts from the first pixel's centre.
    """
    from skimage.transform import warp

    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about = (np.array(planes.shape[:0:-1]) - 1) / 2 if middle is None else np.array(middle)
    back = np.array([[cos, -sin * stretch], [sin / stretch, cos]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = back, about - back @ about
    given = {"order": 0 if nearest else 1, "mode": "edge" if fill is None else "constant", "cval": fill or 0.0}
    turned = [warp(plane.astype(np.float32), matrix, preserve_range=True, **given) for plane in planes]
    return np.stack(turned).astype(planes.dtype)


def _polar(image: np.ndarray) -> np.ndarray:
    """Return the grey values on circles about the middle, `(angles, radii)`, up to the nearest side."""
    from skimage.transform import warp_polar

    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(image[:, top : top + side, left : left + side])
    grey = resize_image(middle, (2 * _RADII, 2 * _RADII)).mean(axis=0)
    return warp_polar(grey, radius=_RADII, output_shape=(_ANGLES, _RADII), mode="edge").astype(np.float32)


def _spectrum(polar: np.ndarray) -> np.ndarray:
    """Return the Fourier transform along the angle; an outer circle counts as it has pixels, its mean does not."""
    weights = np.arange(polar.shape[1]) + 0.5
    return np.fft.rfft((polar - polar.mean(axis=0)) * np.sqrt(weights), axis=0)


def _angle(polar: np.ndarray, reference: np.ndarray) -> int:
    return int(np.fft.irfft((_spectrum(polar) * reference.conj()).sum(axis=1), n=_ANGLES).argmax())


@lru_cache(maxsize=16)  # not in the alignment itself: they are compared, and arrays cannot be
def _unpacked(packed: str) -> np.ndarray:
    """Return the spectrum of the packed mean; raises `ValueError` or `zlib.error` for another text."""
    most = _ANGLES * _RADII + 1  # whatever the text says
    content = zlib.decompressobj().decompress(b64decode(packed, validate=True), most)
    if len(content) != _ANGLES * _RADII:
        raise ValueError(f"it has {len(content)} bytes, not {_ANGLES * _RADII}")
    return _spectrum(np.frombuffer(content, np.uint8).reshape(_ANGLES, _RADII) / np.float32(255))
