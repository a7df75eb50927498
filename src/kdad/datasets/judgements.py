"""What an inference leaves: a table, a heat map and a thumbnail an image, written as the images are judged."""

import csv
import logging
import shutil
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd
from PIL import Image

from kdad.datasets.place import PlaceDataset
from kdad.detectors.judgement import JudgedFile
from kdad.errors import InputError
from kdad.images.decoding import resize_image
from kdad.interruption import InsistentSignals
from kdad.replacing import is_taken, link_or_copy, put_back, replacing
from kdad.reporting.file_names import printable
from kdad.reporting.heat_map import overlay_placed, thumbnail, thumbnail_size

logger = logging.getLogger(__name__)

COLUMNS = (
    *("path", "score", "threshold", "decision", "percentile", "height", "width", "milliseconds", "label"),
    *("problem", "heat_map", "thumbnail"),
)
_TEXTS = dict.fromkeys(("path", "problem", "heat_map", "thumbnail"), object)
_TABLE = "judgements.csv"
_MAPS = "maps.npy"
_WRITTEN = ("heat_maps", "thumbnails", _MAPS, _TABLE)
_LONGEST_NAME = 255  # in bytes, of a file
_FAST = 1  # of zlib's levels: several times faster than the usual, files are a tenth larger


@dataclass(frozen=True)
class JudgementStream:
    """Files with their judgements, made one after another as they are written.

    `limits` are what colours run between; `map_size` (H, W) of maps.npy, None without; `place` where the images lie.
    """

    files: Iterable[tuple[str, JudgedFile, int | None]]
    count: int
    limits: tuple[float, float] | None
    heat_maps: bool
    map_size: tuple[int, int] | None
    place: Path | None = None


@dataclass(frozen=True)
class Judgements:
    """A finished inference: a row a file, and the pictures beside the table."""

    table: pd.DataFrame
    folder: Path

    def thumbnail(self, place: str) -> Image.Image:
        """Open the thumbnail that a row names; raises `InputError` for one outside of the folder, or no PNG."""
        path = (self.folder / place).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"'{self.folder / _TABLE}' names a picture outside of its folder: '{place}'; judge again")
        try:
            return Image.open(path, formats=("PNG",))
        except OSError as error:
            raise InputError(f"'{path}' is not the picture that was written ({error}); judge again") from error


class JudgementsDataset(PlaceDataset):
    """A folder with ``judgements.csv``, ``heat_maps``, ``thumbnails`` and perhaps ``maps.npy``, a map a row.

    They are replaced in one swap; with them goes what earlier reports on them left, the files `reports`.
    """

    def __init__(self, *, filepath: str, reports: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._reports = reports

    def load(self) -> Judgements:
        """Read the table."""
        put_back(self._filepath.resolve())
        table = pd.read_csv(
            self._filepath / _TABLE,
            dtype=_TEXTS,
            keep_default_na=False,
            na_values={name: [""] if name in _TEXTS else ["", "nan"] for name in COLUMNS},
            float_precision="round_trip",
        )
        return Judgements(table, self._filepath)

    def save(self, data: JudgementStream) -> None:
        """Judge and write image by image under a temporary name; what an earlier run left is then replaced.

        Raises `InputError` for a folder that holds anything else, the images among them, or lies among the images.
        """
        folder, whole = self._filepath, self._filepath.resolve()  # a link stays, and what it leads to is replaced
        put_back(whole)
        if data.place is not None:
            _check_apart(whole, data.place.resolve())
        if is_taken(folder, _TABLE):
            raise InputError(f"'{folder}' is there already and holds no judgements; give inference.output a new folder")
        earlier = ", in place of earlier ones" if (folder / _TABLE).is_file() else ""
        logger.info("Results: %s%s", printable(str(folder)), earlier, extra=_PLAIN)
        with InsistentSignals(), replacing(whole) as partial:
            _write(partial, data)
            _take_along(whole, partial, (*_WRITTEN, *self._reports))


_PLAIN = {"markup": False}  # brackets in a file's name are no markup


@dataclass
class _Places:
    """Where heat maps go: as the images lie, or by number where the name cannot be a file's beside the others."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def choose(self, name: str, number: int) -> str:
        """Return the place of the heat map of the image with this name and number."""
        place = f"heat_maps/{name}.png"
        key = place.casefold()  # a disk may not tell A from a
        above = {str(folder) for folder in PurePosixPath(key).parents}
        if key in self.files | self.folders or above & self.files or not _can_be_a_file(place):
            return f"heat_maps/{number:06d}.png"
        self.files.add(key)
        self.folders |= above
        return place


def _write(folder: Path, data: JudgementStream) -> None:
    places = _Places()
    maps = (folder / _MAPS).open("wb") if data.map_size is not None else nullcontext()
    # Names that are no UTF-8 are written with escapes, so that every program can read the table.
    table = (folder / _TABLE).open("w", newline="", encoding="utf-8", errors="backslashreplace")
    with table as file, maps as stack:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        if stack is not None:
            shape = (data.count, *data.map_size)
            np.lib.format.write_array_header_1_0(stack, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for number, (name, judged, label) in enumerate(data.files):
            row = _row(name, judged, label)
            if judged.judgement is not None:
                row |= _draw(folder, number, places.choose(name, number), judged, data)
            writer.writerow(row)
            if stack is not None:
                _append_map(stack, judged, data.map_size)


def _append_map(stack: IO[bytes], judged: JudgedFile, size: tuple[int, int]) -> None:
    """Write a map, or for a file that could not be read one that is not a number anywhere."""
    found = np.full(size, np.nan) if judged.judgement is None else judged.judgement.map
    stack.write(np.ascontiguousarray(found, dtype="<f4").tobytes())


def _row(name: str, judged: JudgedFile, label: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"path": name, "milliseconds": round(judged.milliseconds, 2), "problem": judged.problem}
    row["label"] = label
    if judged.judgement is not None:
        found = judged.judgement
        height, width = judged.image.shape[1:]
        row |= {
            "score": found.score,
            "threshold": found.threshold,
            "decision": int(found.decision),
            "percentile": found.percentile,
            "height": height,
            "width": width,
        }
    return row


def _draw(folder: Path, number: int, place: str, judged: JudgedFile, data: JudgementStream) -> dict[str, str]:
    """Write the thumbnail, and at `place` the heat map, where one is wanted and the detector makes maps."""
    image, anomaly_map, limits = judged.image, judged.judgement.map, data.limits or (0.0, 1.0)
    places = {"thumbnail": f"thumbnails/{number:06d}.png"}
    if data.heat_maps and anomaly_map is not None:
        places["heat_map"] = place
        drawn = overlay_placed(image, anomaly_map, limits, judged.placement)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        drawn.save(folder / place, compress_level=_FAST)
        small = thumbnail(drawn)
    else:
        width, height = thumbnail_size(image.shape[2], image.shape[1])
        reduced = resize_image(image, (height, width))
        small = overlay_placed(
            reduced, anomaly_map, limits, judged.placement and judged.placement.of_size(height, width)
        )
    (folder / "thumbnails").mkdir(exist_ok=True)
    small.save(folder / places["thumbnail"])
    return places


def _can_be_a_file(place: str) -> bool:
    try:
        return max(len(part.encode()) for part in place.split("/")) <= _LONGEST_NAME
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False


def _check_apart(folder: Path, images: Path) -> None:
    """Raise `InputError` when results would lie among the images, and be judged next time, or replace them."""
    if images.is_dir() and folder.is_relative_to(images):
        raise InputError(
            f"results would lie in '{folder}', among the images that are judged ('{images}'), and be judged with them "
            "next time; give inference.output a folder elsewhere"
        )
    if images.is_relative_to(folder):
        raise InputError(
            f"the images '{images}' lie in the results' folder '{folder}'; give inference.output a folder elsewhere"
        )


def _take_along(folder: Path, successor: Path, own: Sequence[str]) -> None:
    """Give what a user keeps in a folder, all but the `own` names, a second place in its successor."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name in own:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, successor / path.name, symlinks=True, copy_function=link_or_copy)
        else:
            link_or_copy(path, successor / path.name)
