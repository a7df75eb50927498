"""The region of all images that counts: what lies outside is the same in every image, and in no score."""

import json
import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt, model_validator

from kdad.errors import InputError
from kdad.images.files.mask_files import read_mask
from kdad.images.files.shapes import numbers, outline
from kdad.images.layouts.annotation_formats import parse
from kdad.parameters.strict import StrictModel

#: What pixels outside become, in [0, 1].
OUTSIDE = 0.5


class Region(StrictModel):
    """The pixels that count of images of one size, as text, so that a detector's facts hold it."""

    model_config = ConfigDict(frozen=True)

    height: PositiveInt
    width: PositiveInt
    packed: str = Field(description="base64 of zlib of 8 pixels a byte, row by row; 1 counts")

    @classmethod
    def of(cls, mask: np.ndarray) -> Self:
        """Return the region of a mask, bool `(H, W)`, True where pixels count."""
        content = zlib.compress(np.packbits(mask).tobytes(), 9)
        return cls(height=mask.shape[0], width=mask.shape[1], packed=b64encode(content).decode("ascii"))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        try:
            size = len(self._bytes())
        except (ValueError, zlib.error) as error:
            raise ValueError(f"the region cannot be read ({error})") from None
        if size != -(-self.height * self.width // 8):
            raise ValueError(f"the region has {size} bytes, which are not those of {self.height} x {self.width} pixels")
        return self

    def _bytes(self) -> bytes:
        most = self.height * self.width // 8 + 2  # whatever the text says
        return zlib.decompressobj().decompress(b64decode(self.packed, validate=True), most)

    @property
    def mask(self) -> np.ndarray:
        """The pixels that count, bool `(H, W)`; only to be read."""
        return _unpacked(self)

    def difference(self, size: tuple[int, ...]) -> str | None:
        """Say how an image's `size` (height, width) is not the region's; None where it is."""
        if tuple(size) == (self.height, self.width):
            return None
        return f"is {size[0]} x {size[1]}, and the region that counts {self.height} x {self.width} (height x width)"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return an image `(3, H, W)` with the same grey everywhere outside; raises `InputError` for another size."""
        wrong = self.difference(image.shape[1:])
        if wrong is not None:
            raise InputError(f"the image {wrong}; give one that was taken as the detector's own were")
        return np.where(self.mask, image, np.float32(OUTSIDE))

    def share(self) -> float:
        """Return which share of the pixels counts."""
        return float(self.mask.mean())


@lru_cache(maxsize=16)  # not in the region itself: regions are compared, and arrays cannot be
def _unpacked(region: Region) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(region._bytes(), np.uint8), count=region.height * region.width)
    return bits.reshape(region.height, region.width).astype(bool)


def read_region(path: Path, size: tuple[int, int] | None = None) -> Region:
    """Read a region from a mask file, white where pixels count, or from the outlines of a JSON (LabelMe, or points).

    Outlines are drawn at the `size` (height, width) of the set's images, where LabelMe says none. Raises `InputError`
    for no file, for outlines beyond the image, and where no pixel counts.
    """
    if not path.is_file():
        raise InputError(
            f"dataset.region: there is no file {path}; give an image that is white where pixels count, or a JSON of "
            "outlines"
        )
    if path.suffix.lower() == ".json":
        return _read_outlines(path, size)
    mask = read_mask(path)
    if not mask.any():
        raise InputError(f"{path}: marks nothing, so that no pixel would count; make it white where pixels count")
    return Region.of(mask)


def _read_outlines(path: Path, size: tuple[int, int] | None) -> Region:
    parsed = parse(path)
    if parsed is None:
        return region_within(json.loads(path.read_text(encoding="utf-8-sig")), size, str(path))
    name, (annotated, problems) = parsed
    shapes = annotated[0] if annotated else None
    if problems or name != "LabelMe" or shapes is None or not shapes.shapes:
        raise InputError(problems[0] if problems else f"{path}: draws no region; give LabelMe's JSON of one image")
    return Region.of(shapes.draw(shapes.size or _known(size, str(path))))


def region_within(points: object, size: tuple[int, int] | None, where: str = "dataset.region") -> Region:
    """Return the pixels within the outline through points [x, y] of images of a `size` (height, width).

    Raises `InputError` for fewer than three points, no area, and an outline beyond the image.
    """
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(
            f"{where}: is no outline: neither of LabelMe nor points [x, y], such as [[10, 10], [90, 10], [50, 90]]"
        )
    flat = numbers([value for x, y in points for value in (x, y)], where)
    return Region.of(outline(where, "region", flat).draw(_known(size, where)))


def _known(size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    if size is None:
        raise InputError(
            f"{where}: the size of no image can be read, so that no outline can be drawn; look at the files"
        )
    return size
