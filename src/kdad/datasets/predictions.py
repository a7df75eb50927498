"""What an inference leaves: a table, a heat map and a thumbnail an image, written as the images are judged."""

import csv
import logging
import shutil
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from PIL import Image

from kdad.datasets.place import PlaceDataset
from kdad.datasets.predicted_files import HeatMapPlaces, draw_file, row_of
from kdad.detectors.prediction import FilePrediction
from kdad.errors import InputError
from kdad.logs import PLAIN
from kdad.project.interruption import RaiseOnSignal
from kdad.reporting.file_names import printable
from kdad.storage.replacing import is_taken, link_or_copy, put_back, replacing

logger = logging.getLogger(__name__)

COLUMNS = (
    *("path", "score", "threshold", "decision", "percentile", "height", "width", "milliseconds", "label"),
    *("problem", "heat_map", "thumbnail"),
)
_TEXTS = dict.fromkeys(("path", "problem", "heat_map", "thumbnail"), object)
TABLE = "predictions.csv"
#: What a watch leaves beside the table, and nobody else may replace.
JOURNAL = "journal.jsonl"
_MAPS = "maps.npy"
_WRITTEN = ("heat_maps", "thumbnails", _MAPS, TABLE)


@dataclass(frozen=True)
class PredictionStream:
    """Files with their predictions, made one after another as they are written.

    `limits` are what colours run between; `map_size` (H, W) of maps.npy, None without; `place` where the images lie.
    """

    files: Iterable[tuple[str, FilePrediction, int | None]]
    count: int
    limits: tuple[float, float] | None
    heat_maps: bool
    map_size: tuple[int, int] | None
    place: Path | None = None


@dataclass(frozen=True)
class Predictions:
    """A finished inference: a row a file, and the pictures beside the table."""

    table: pd.DataFrame
    folder: Path

    def thumbnail(self, place: str) -> Image.Image:
        """Open the thumbnail that a row names; raises `InputError` for one outside of the folder, or no PNG."""
        path = (self.folder / place).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"'{self.folder / TABLE}' names a picture outside of its folder: '{place}'; judge again")
        try:
            return Image.open(path, formats=("PNG",))
        except OSError as error:
            raise InputError(f"'{path}' is not the picture that was written ({error}); judge again") from error


def read_predictions(folder: Path) -> Predictions:
    """Read the table of predictions in a folder."""
    table = pd.read_csv(
        folder / TABLE,
        dtype=_TEXTS,
        keep_default_na=False,
        na_values={name: [""] if name in _TEXTS else ["", "nan"] for name in COLUMNS},
        float_precision="round_trip",
    )
    return Predictions(table, folder)


class PredictionsDataset(PlaceDataset):
    """A folder with ``predictions.csv``, ``heat_maps``, ``thumbnails`` and perhaps ``maps.npy``, a map a row.

    They are replaced in one swap; with them goes what earlier reports on them left, the files `reports`.
    """

    def __init__(self, *, filepath: str, reports: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._reports = reports

    def load(self) -> Predictions:
        """Read the table."""
        put_back(self._filepath.resolve())
        return read_predictions(self._filepath)

    def save(self, data: PredictionStream) -> None:
        """Judge and write image by image under a temporary name; what an earlier run left is then replaced.

        Raises `InputError` for a folder that holds anything else, the images among them, or lies among the images.
        """
        folder, whole = self._filepath, self._filepath.resolve()  # a link stays, and what it leads to is replaced
        put_back(whole)
        if data.place is not None:
            check_apart(whole, data.place.resolve())
        if is_taken(folder, TABLE):
            raise InputError(
                f"'{folder}' is there already and holds no predictions; give inference.output a new folder"
            )
        if (folder / JOURNAL).exists():
            raise InputError(f"'{folder}' holds what a watch has judged; give inference.output a new folder")
        earlier = ", in place of earlier ones" if (folder / TABLE).is_file() else ""
        logger.info("Results: %s%s", printable(str(folder)), earlier, extra=PLAIN)
        with RaiseOnSignal(), replacing(whole) as partial:
            _write(partial, data)
            _take_along(whole, partial, (*_WRITTEN, *self._reports))


def _write(folder: Path, data: PredictionStream) -> None:
    places = HeatMapPlaces()
    maps = (folder / _MAPS).open("wb") if data.map_size is not None else nullcontext()
    # Names that are no UTF-8 are written with escapes, so that every program can read the table.
    table = (folder / TABLE).open("w", newline="", encoding="utf-8", errors="backslashreplace")
    with table as file, maps as stack:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        if stack is not None:
            shape = (data.count, *data.map_size)
            np.lib.format.write_array_header_1_0(stack, {"descr": "<f4", "fortran_order": False, "shape": shape})
        numbers = count()
        for name, judged, label in data.files:
            number = next(numbers)
            row = row_of(name, judged, label)
            if judged.prediction is not None:
                place = places.choose(name, number)
                row |= draw_file(folder, number, place, judged, data.limits, data.heat_maps)
            writer.writerow(row)
            if stack is not None:
                _append_map(stack, judged, data.map_size)
            del judged  # a large image is not kept while the next is judged


def _append_map(stack: IO[bytes], judged: FilePrediction, size: tuple[int, int]) -> None:
    """Write a map, or for a file that could not be read one that is not a number anywhere."""
    found = np.full(size, np.nan) if judged.prediction is None else judged.prediction.map
    stack.write(np.ascontiguousarray(found, dtype="<f4").tobytes())


def check_apart(folder: Path, images: Path) -> None:
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
