"""Which files are taken for images: by the endings of their names, in any case."""

from pathlib import PurePath

EXTENSIONS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff"),
        *(".webp", ".gif", ".jp2", ".j2k", ".jpx", ".avif"),
    )
)


def is_image(path: PurePath) -> bool:
    """Tell whether a file of this name is an image; hidden ones are none."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
