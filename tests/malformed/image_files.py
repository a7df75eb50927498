"""Image files that are cut short, of another kind, too large, or no image: a name and bytes each, from one seed."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SEED = 15
#: Suffix and format of what an image set may hold.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
    ".ppm": "PPM",
}
#: Formats that Pillow writes and that are no images of a set, whatever their name says.
FOREIGN = ("ICO", "PCX", "SGI", "TGA", "EPS", "PDF", "DDS", "IM", "MSP", "XBM", "ICNS", "DIB")
_SIDE = 24


def sound(kind: str) -> bytes:
    """Return a sound image of noise in a format, 24 x 24 pixels."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if kind in ("MSP", "XBM"):
        image = image.convert("1")
    buffer = io.BytesIO()
    options = {"WEBP": {"lossless": True}, "PDF": {"creationDate": None, "modDate": None}}.get(kind, {})
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def wide(mode: str, kind: str, value: float = 0.5) -> bytes:
    """Return an image of a wide mode of Pillow in a format, 24 x 24 pixels of noise, and one of `value`."""
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    pixels = np.random.default_rng(SEED).random((_SIDE, _SIDE)) * (1 if mode == "F" else 60_000)
    pixels[3, 4] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(dtype)).save(buffer, format=kind)
    return buffer.getvalue()


def pages(kind: str) -> bytes:
    """Return an image of three pages, or frames."""
    generator = np.random.default_rng(SEED)
    each = [Image.fromarray(generator.integers(0, 256, (_SIDE, _SIDE), dtype=np.uint8)) for _ in range(3)]
    buffer = io.BytesIO()
    each[0].save(buffer, format=kind, save_all=True, append_images=each[1:])
    return buffer.getvalue()


def images_of_no_use() -> Iterator[tuple[str, bytes]]:
    """Yield images that can be decoded, and whose values are none: not a number, infinite, or beyond what is known."""
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("minus_infinite", -np.inf)):
        yield f"{name}.tif", wide("F", "TIFF", value)
    yield "above_one.tif", wide("F", "TIFF", 1.5)
    yield "below_zero.tif", wide("F", "TIFF", -0.5)
    yield "above_16_bits.tif", wide("I", "TIFF", 70_000)
    yield "negative.tif", wide("I", "TIFF", -3)


def pages_in_a_circle() -> bytes:
    """Return an image whose first page says that it is its own next one."""
    return _with_second_page_at(pages("TIFF"), None)


def images_with_torn_pages() -> Iterator[tuple[str, bytes]]:
    """Yield images whose first page is whole, and whose later ones are not."""
    tif, gif = pages("TIFF"), pages("GIF")
    yield "second_page_outside.tif", _with_second_page_at(tif, len(tif) + 2**20)
    yield "second_page_in_the_pixels.tif", _with_second_page_at(tif, 10)
    yield "second_frame_cut.gif", gif[: len(gif) // 2]


def malformed_images() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files that no reader of images may take for one."""
    yield from _truncated()
    yield from _truncated_wide()
    yield from _of_other_kinds()
    yield from _with_wrong_headers()
    yield from _bombs()
    yield from _noise()


def _truncated() -> Iterator[tuple[str, bytes]]:
    """Cut each format at every eighth, from nothing to seven eighths."""
    for suffix, kind in FORMATS.items():
        whole = sound(kind)
        for eighths in range(8):
            yield f"cut_{eighths}_of_8{suffix}", whole[: len(whole) * eighths // 8]


def _truncated_wide() -> Iterator[tuple[str, bytes]]:
    """Cut 16 bits, 32 bits, floats and files of several pages at a quarter and at half of the pixels."""
    files = {f"{mode.replace(';', '_')}.tif": wide(mode, "TIFF") for mode in ("I;16", "I", "F")}
    files |= {"I_16.png": wide("I;16", "PNG"), "I_16.jp2": wide("I;16", "JPEG2000")}
    for name, whole in files.items():
        for quarters in (1, 2):
            yield f"cut_{quarters}_of_4_{name}", whole[: len(whole) * quarters // 4]
    yield "cut_pages.tif", pages("TIFF")[:300]
    yield "cut_pages.gif", pages("GIF")[:900]


def _of_other_kinds() -> Iterator[tuple[str, bytes]]:
    for kind in FOREIGN:
        yield f"{kind.lower()}_content.png", sound(kind)
    texts = {
        "html": b"<html><body>404 Not Found</body></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "json": b'{"image": "a.png"}',
        "csv": b"path,label\na.png,0\n",
        "script": b"#!/bin/sh\necho no\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>1</script></svg>",
        "empty_lines": b"\n" * 512,
        "zeros": bytes(4096),
        "archive": b"PK\x03\x04" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07message\x94.",
        "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }" + bytes(60),
    }
    for name, content in texts.items():
        for suffix in (".png", ".jpeg"):
            yield f"{name}_content{suffix}", content


def _with_wrong_headers() -> Iterator[tuple[str, bytes]]:
    """Replace or damage the first bytes of each format, by which it is known."""
    for suffix, kind in FORMATS.items():
        whole = sound(kind)
        yield f"no_magic{suffix}", bytes(4) + whole[4:]
        yield f"magic_alone{suffix}", whole[:4]
        yield f"without_its_first_byte{suffix}", whole[1:]
    png = sound("PNG")
    for name, width, height in (("no_width", 0, 24), ("no_height", 24, 0), ("endless", 2**31 - 1, 2**31 - 1)):
        yield f"{name}.png", _with_size(png, width, height)
    yield "wide_and_short.png", _with_size(png, 60_000, 60_000)
    bad_bits = bytearray(png)
    bad_bits[24] = 7  # bits a sample
    yield "seven_bits.png", _with_checksum(bad_bits)
    yield "no_data.png", png[:33] + _chunk(b"IEND", b"")
    yield "data_is_not_packed.png", png[:33] + _chunk(b"IDAT", b"no zlib") + _chunk(b"IEND", b"")
    yield "too_little_data.png", png[:33] + _chunk(b"IDAT", zlib.compress(bytes(10))) + _chunk(b"IEND", b"")
    bmp = bytearray(sound("BMP"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield "endless.bmp", bytes(bmp)
    bmp[18:26] = struct.pack("<ii", -24, 24)
    yield "negative_width.bmp", bytes(bmp)
    tif = sound("TIFF")
    yield "directory_outside.tif", tif[:4] + struct.pack("<I", 2**31) + tif[8:]
    yield "no_directory.tif", tif[:8]


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files of huge pictures."""
    rows = 40_000
    squeezed = zlib.compress(bytes(rows * 16), 9)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", rows, rows, 8, 2, 0, 0, 0))
    yield "bomb.png", b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", squeezed) + _chunk(b"IEND", b"")
    jpeg = bytearray(sound("JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65500, 65500)
    yield "bomb.jpg", bytes(jpeg)
    for suffix, mark, offset, form in (
        (".gif", b"GIF8", 6, "<HH"),
        (".jp2", b"ihdr", 4, ">II"),
        (".avif", b"ispe", 8, ">II"),
    ):
        whole = bytearray(sound(FORMATS[suffix]))
        start = whole.index(mark) + offset
        whole[start : start + struct.calcsize(form)] = struct.pack(form, 65500, 65500)
        yield f"bomb{suffix}", bytes(whole)
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))
    yield "bomb_of_text.png", sound("PNG")[:33] + text + sound("PNG")[33:]


def _noise() -> Iterator[tuple[str, bytes]]:
    generator = np.random.default_rng(SEED)
    for suffix, kind in FORMATS.items():
        magic = sound(kind)[:16]
        for number, size in enumerate((1, 17, 300)):
            noise = generator.bytes(size)
            yield f"noise_{number}{suffix}", noise
            yield f"noise_after_magic_{number}{suffix}", magic + noise


def _with_size(png: bytes, width: int, height: int) -> bytes:
    changed = bytearray(png)
    changed[16:24] = struct.pack(">II", width, height)
    return _with_checksum(changed)


def _with_checksum(png: bytearray) -> bytes:
    """Give a changed IHDR the checksum that fits it."""
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def _with_second_page_at(tif: bytes, place: int | None) -> bytes:
    """Say that the second page is elsewhere; None for where the first is."""
    first = struct.unpack("<I", tif[4:8])[0]
    entries = struct.unpack("<H", tif[first : first + 2])[0]
    link = first + 2 + 12 * entries
    return tif[:link] + struct.pack("<I", first if place is None else place) + tif[link + 4 :]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
