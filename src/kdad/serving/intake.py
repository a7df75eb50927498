"""From what a client sends to an image of the detector's size: bytes, a form, base64 text, an array, or a path."""

import base64
import binascii
import hashlib
import io
import os
import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.images.files.decoding import FORMATS, convert_pillow, read_image
from kdad.images.files.fitting import Placement


class TooLargeError(InputError):
    """An image, or a request, that is larger than is taken."""


@dataclass(frozen=True)
class Prepared:
    """An image `(3, h, w)` of the detector's size, and where that lies in the one that was sent.

    `original` `(3, H, W)` is what was sent, `content` its file, and `digest` the SHA-256 of that or of its values; None
    unless wanted. `suffix` is of such files.
    """

    image: np.ndarray
    placement: Placement
    original: np.ndarray | None = None
    digest: str | None = None
    content: bytes | None = None
    suffix: str = ""


@dataclass(frozen=True)
class ImageInput:
    """Makes images ready for a predictor, up to `pixels` each; None: as many as Pillow decodes."""

    predictor: Predictor
    pixels: int | None = None
    with_digests: bool = False

    def prepare(self, value: Any, paths: bool = False, keep: bool = False) -> Prepared:
        """Return an image ready to be scored, from bytes, base64 text, an array `(H, W, 3)`, or where `paths` a path.

        Raises `TooLargeError` before memory is taken, and `InputError` for what cannot be read.
        """
        image, content, suffix = self._read(value, paths)
        (fitted, placement), digest = self.predictor.placed(image), None
        if self.with_digests or keep:
            digest = hashlib.sha256(content).hexdigest()
        kept = (image, digest, content, suffix) if keep else (None, digest)
        return Prepared(fitted, placement, *kept)

    def _read(self, value: Any, paths: bool) -> tuple[np.ndarray, bytes | memoryview, str]:
        """Return the image `(3, H, W)`, its file or values, and how a file of this kind ends."""
        values = self.predictor.preparation.values
        if isinstance(value, np.ndarray | list | tuple):
            array = self._array(value)
            return read_image(array, values), np.ascontiguousarray(array).data, ""
        image, content = self._open(self._content(value, paths))
        return convert_pillow(image, values), content, _SUFFIXES.get(image.format, f".{image.format.lower()}")

    def _content(self, value: Any, paths: bool) -> bytes:
        if isinstance(value, bytes | np.bytes_ | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, str | Path):
            if paths and _is_file(value):
                return Path(value).expanduser().read_bytes()
            if isinstance(value, Path):
                raise InputError(
                    f"there is no file '{value}'" if paths else "a path is not opened here; send the bytes"
                )
            return _decode(value, paths)
        raise InputError(f"it is {_kind(value)}; give an image file's bytes, or these as base64 text")

    def _open(self, content: bytes, may_be_text: bool = True) -> tuple[Image.Image, bytes]:
        """Open a file's content, whose header alone is read; returned with what base64 text held, where it is that."""
        if not content:
            raise InputError("it is empty; give an image file's bytes")
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise TooLargeError("it has more pixels than are decoded; make it smaller, or cut it up") from error
        except Exception as error:  # Pillow raises many kinds for damaged files
            held = _decode_bytes(content) if may_be_text else b""
            if held:
                return self._open(held, may_be_text=False)
            raise InputError(
                f"it is no image that can be read: none of {', '.join(FORMATS)}{_say_kind(content)}"
            ) from error
        self._check_size(image.height, image.width)
        return image, content

    def _array(self, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError("its lists are of unequal lengths; an array is (H, W, 3)") from error
        if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3)):
            raise InputError(f"an array of shape {array.shape} is no image; give (H, W, 3), or (H, W)")
        self._check_size(*array.shape[:2])
        if array.dtype != np.uint8:
            array = _as_bytes(array)
        return array

    def _check_size(self, height: int, width: int) -> None:
        if self.pixels is not None and height * width > self.pixels:
            raise TooLargeError(
                f"it is {height} x {width}, and at most {self.pixels / 1e6:g} million pixels are taken; make it "
                "smaller, or cut it up"
            )


#: Of Pillow's formats whose name is not how their files end.
_SUFFIXES = {"JPEG2000": ".jp2", "MPO": ".jpeg"}


def _is_file(value: str | Path) -> bool:
    try:
        return len(os.fspath(value)) < 4096 and Path(value).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, an unknown home
        return False


_DATA_URI = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


def _decode(text: str, paths: bool = False) -> bytes:
    """Return what base64 text holds: with line breaks or without, by itself or as a data URI."""
    uri = _DATA_URI.match(text)
    if uri is not None:
        if not uri[1].lower().endswith(";base64"):
            raise InputError(f"it is a data URI of '{uri[1]}', which is not in base64; give data:image/png;base64,...")
        text = text[uri.end() :]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        what = "neither a file nor base64 text" if paths else "not base64 text; a path is not opened here"
        if re.fullmatch(r"[\w=\s-]{20,}", text, re.ASCII):
            what = "cut short, or in base64's form for URLs (- and _), which is not taken"
        raise InputError(f"it is {what}; give an image file's bytes in base64") from error


def _decode_bytes(content: bytes) -> bytes:
    """Return what bytes that are base64 text hold; nothing where they are none."""
    try:
        return _decode(content.decode("ascii"))
    except (UnicodeDecodeError, InputError):
        return b""


#: What is often sent in an image's place, by how it begins.
_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "PDF",
    b"{": "JSON, which /invocations takes",
    b"[": "JSON, which /invocations takes",
    b"<": "XML, SVG or HTML",
    b"--": "a multipart form, whose Content-Type must say so, with its boundary",
    b"\x93NUMPY": "a NumPy file",
}


def _say_kind(content: bytes) -> str:
    found = next((kind for start, kind in _BEGINNINGS.items() if content.lstrip().startswith(start)), None)
    return "" if found is None else f"; it looks like {found}"


def file_of_form(content: bytes, kind: str) -> bytes:
    """Return the one file of a form, as browsers and `requests` send it; `kind` is the Content-Type of the request.

    Raises `InputError` for a form that is cut short, or of none or several files.
    """
    header = Message()
    header["Content-Type"] = kind
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise InputError("the multipart form names no boundary in its Content-Type; let the client write that header")
    _, *parts = (b"\r\n" + content).split(b"\r\n--" + boundary.encode("latin-1"))
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise InputError("the multipart form is cut short, or has another boundary than its Content-Type says")
    found = [_part_of_form(part) for part in parts[:-1]]
    files = [body for name, body in found if name is not None] or [body for _, body in found]
    if len(files) != 1:
        raise InputError(f"the multipart form has {len(files)} files; send one a request, or all to /invocations")
    return files[0]


def _part_of_form(part: bytes) -> tuple[str | None, bytes]:
    """Return the name of the file, if it is one, and the content of a part of a form."""
    head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    return BytesHeaderParser().parsebytes(head + b"\r\n\r\n").get_filename(), body


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Return whole numbers in 0..255 as uint8."""
    if array.dtype.kind not in "uif":
        raise InputError(f"an array of {array.dtype} is no image; give whole numbers from 0 to 255")
    if not np.isfinite(array).all():
        raise InputError("the array has values that are NaN or infinite; give whole numbers from 0 to 255")
    converted = np.clip(array, 0, 255).astype(np.uint8)
    if (converted != array).any():
        raise InputError("the array has values other than whole numbers from 0 to 255; give uint8")
    return converted


def _kind(value: Any) -> str:
    return "null" if value is None or value != value else f"of the type {type(value).__name__}"
