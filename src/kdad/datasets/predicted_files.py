"""A judged file as a row of a table, with its heat map and its thumbnail."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kdad.detectors.prediction import FilePrediction
from kdad.images.files.decoding import resize_image
from kdad.reporting.heat_map import overlay_placed, thumbnail, thumbnail_size

_LONGEST_NAME = 255  # in bytes, of a file
_FAST = 1  # of zlib's levels: several times faster than the usual, files are a tenth larger


@dataclass
class HeatMapPlaces:
    """Where heat maps go: as the images lie, or by number where the name cannot be a file's beside the others."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def take(self, place: str) -> None:
        """Count a place as taken."""
        key = place.casefold()  # a disk may not tell A from a
        self.files.add(key)
        self.folders |= {str(folder) for folder in PurePosixPath(key).parents}

    def choose(self, name: str, number: int) -> str:
        """Return the place of the heat map of the image with this name and number."""
        place = f"heat_maps/{name}.png"
        key = place.casefold()
        above = {str(folder) for folder in PurePosixPath(key).parents}
        if key in self.files or key in self.folders or above & self.files or not _can_be_a_file(place):
            return f"heat_maps/{number:06d}.png"
        self.take(place)
        return place


def row_of(name: str, judged: FilePrediction, label: int | None) -> dict[str, Any]:
    """Return the row of a table of predictions, without pictures."""
    row: dict[str, Any] = {"path": name, "milliseconds": round(judged.milliseconds, 2), "problem": judged.problem}
    row["label"] = label
    if judged.prediction is not None:
        found = judged.prediction
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


def draw_file(
    folder: Path,
    number: int,
    place: str,
    judged: FilePrediction,
    limits: tuple[float, float] | None,
    heat_maps: bool,
) -> dict[str, str]:
    """Write the thumbnail, and at `place` the heat map, where one is wanted and the detector makes maps.

    Returns their places by the table's columns.
    """
    image, anomaly_map, limits = judged.image, judged.prediction.map, limits or (0.0, 1.0)
    places = {"thumbnail": f"thumbnails/{number:06d}.png"}
    if heat_maps and anomaly_map is not None:
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
