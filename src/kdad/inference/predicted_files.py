"""Predicted files as rows of a table, with a heat map and a thumbnail each."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from kdad.detectors.prediction import FilePrediction
from kdad.images.files.decoding import resize_image
from kdad.reporting.heat_maps import overlay_placed, thumbnail, thumbnail_size

COLUMNS = (
    *("path", "score", "threshold", "decision", "percentile", "height", "width", "milliseconds", "label"),
    *("problem", "heat_map", "thumbnail"),
)
_LONGEST_NAME = 255  # in bytes, of a file
_FAST = 1  # of zlib's levels: several times faster than the usual, files are a tenth larger


class PredictedFiles:
    """The predicted files of one folder.

    A heat map lies as its image does, or by number where that name cannot be a file's beside the others.
    """

    def __init__(self, folder: Path, limits: tuple[float, float] | None, heat_maps: bool) -> None:
        self._folder, self._limits, self._heat_maps = folder, limits or (0.0, 1.0), heat_maps
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._count = 0

    def take_up(self, row: dict[str, Any]) -> None:
        """Count the row of a file that an earlier process has predicted."""
        if row.get("heat_map"):
            self._take(row["heat_map"])
        self._count += 1

    def add(self, name: str, predicted: FilePrediction, label: int | None = None) -> dict[str, Any]:
        """Write the pictures of a file; return its row of the table."""
        row: dict[str, Any] = {"path": name, "milliseconds": round(predicted.milliseconds, 2), "label": label}
        row["problem"] = predicted.problem
        if predicted.prediction is not None:
            prediction = predicted.prediction
            height, width = predicted.image.shape[1:]
            row |= {
                "score": prediction.score,
                "threshold": prediction.threshold,
                "decision": int(prediction.decision),
                "percentile": prediction.percentile,
                "height": height,
                "width": width,
            }
            row |= self._draw(name, predicted)
        self._count += 1
        return row

    def _draw(self, name: str, predicted: FilePrediction) -> dict[str, str]:
        """Write the thumbnail, and the heat map where one is wanted and the detector makes maps; return their places.

        A heat map's name is taken in any case, so that the names of others do not depend on it.
        """
        image, anomaly_map, placement = predicted.image, predicted.prediction.map, predicted.placement
        places, heat_map = {"thumbnail": f"thumbnails/{self._count:06d}.png"}, self._choose(name)
        if self._heat_maps and anomaly_map is not None:
            places["heat_map"] = heat_map
            drawn = overlay_placed(image, anomaly_map, self._limits, placement)
            (self._folder / heat_map).parent.mkdir(parents=True, exist_ok=True)
            drawn.save(self._folder / heat_map, compress_level=_FAST)
            small = thumbnail(drawn)
        else:
            width, height = thumbnail_size(image.shape[2], image.shape[1])
            reduced, placement = resize_image(image, (height, width)), placement and placement.of_size(height, width)
            small = overlay_placed(reduced, anomaly_map, self._limits, placement)
        (self._folder / "thumbnails").mkdir(exist_ok=True)
        small.save(self._folder / places["thumbnail"])
        return places

    def _choose(self, name: str) -> str:
        place = f"heat_maps/{name}.png"
        key = place.casefold()
        above = {str(folder) for folder in PurePosixPath(key).parents}
        if key in self._files or key in self._folders or above & self._files or not _can_be_a_file(place):
            return f"heat_maps/{self._count:06d}.png"
        self._take(place)
        return place

    def _take(self, place: str) -> None:
        key = place.casefold()  # a disk may not tell A from a
        self._files.add(key)
        self._folders |= {str(folder) for folder in PurePosixPath(key).parents}


@contextmanager
def open_table(path: Path, mode: str) -> Iterator["csv.DictWriter[str]"]:
    """Open a table of predictions to write (``w``, with its first line) or to append (``a``), flushed row by row."""
    # Names that are no UTF-8 are written with escapes, so that every program can read the table.
    with path.open(mode, buffering=1, newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.DictWriter(file, COLUMNS)
        if mode == "w":
            table.writeheader()
        yield table


def _can_be_a_file(place: str) -> bool:
    try:
        return max(len(part.encode()) for part in place.split("/")) <= _LONGEST_NAME
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
