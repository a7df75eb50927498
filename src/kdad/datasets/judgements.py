"""What an inference leaves: a table, a heat map and a thumbnail an image, written as the images are judged."""

import csv
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kdad.datasets.place import PlaceDataset
from kdad.detectors.judgement import JudgedFile
from kdad.reporting.heat_map import overlay_heat, thumbnail

COLUMNS = (
    *("path", "score", "threshold", "decision", "percentile", "height", "width", "milliseconds", "label"),
    *("problem", "heat_map", "thumbnail"),
)
_TABLE = "judgements.csv"
_MAPS = "maps.npy"


@dataclass(frozen=True)
class JudgementStream:
    """Files with their judgements, made one after another as they are written.

    `limits` are what colours run between; `map_size` (H, W) of maps.npy, None without it.
    """

    files: Iterable[tuple[str, JudgedFile, int | None]]
    count: int
    limits: tuple[float, float] | None
    heat_maps: bool
    map_size: tuple[int, int] | None


@dataclass(frozen=True)
class Judgements:
    """A finished inference: a row a file, and the pictures beside the table."""

    table: pd.DataFrame
    folder: Path

    def thumbnail(self, place: str) -> Image.Image:
        """Open the thumbnail that a row names."""
        return Image.open(self.folder / place)


class JudgementsDataset(PlaceDataset):
    """A folder with ``judgements.csv``, ``heat_maps``, ``thumbnails`` and perhaps ``maps.npy``; replaced as a whole."""

    def load(self) -> Judgements:
        """Read the table."""
        table = pd.read_csv(self._filepath / _TABLE, dtype={"path": object}, keep_default_na=False, na_values=[""])
        for name in ("problem", "heat_map", "thumbnail"):
            table[name] = table[name].astype(object)
        return Judgements(table, self._filepath)

    def save(self, data: JudgementStream) -> None:
        """Judge and write image by image under a temporary name; what an earlier run left is then replaced."""
        temporary = self._filepath.with_name(self._filepath.name + ".partial")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write(temporary, data)
            self._filepath.mkdir(parents=True, exist_ok=True)
            for name in ("heat_maps", "thumbnails", _MAPS, _TABLE):
                _replace(temporary / name, self._filepath / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, data: JudgementStream) -> None:
    maps = None
    if data.map_size is not None:
        shape = (data.count, *data.map_size)
        maps = np.lib.format.open_memmap(folder / _MAPS, mode="w+", dtype=np.float32, shape=shape)
    with (folder / _TABLE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number, (name, judged, label) in enumerate(data.files):
            row = _row(name, judged, label)
            if judged.judgement is not None:
                row |= _draw(folder, number, name, judged, data)
                if maps is not None:
                    maps[number] = judged.judgement.map
            elif maps is not None:
                maps[number] = np.nan
            writer.writerow(row)
    if maps is not None:
        maps.flush()


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


def _draw(folder: Path, number: int, name: str, judged: JudgedFile, data: JudgementStream) -> dict[str, str]:
    """Write heat map and thumbnail; both have the image's place and name below their folders."""
    drawn = overlay_heat(judged.image, judged.judgement.map, data.limits or (0.0, 1.0))
    places = {"thumbnail": f"thumbnails/{number:06d}.png"}
    small = folder / places["thumbnail"]
    small.parent.mkdir(exist_ok=True)
    thumbnail(drawn).save(small)
    if data.heat_maps and judged.judgement.map is not None:
        places["heat_map"] = f"heat_maps/{name}.png"
        large = folder / places["heat_map"]
        large.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(large)
    return places


def _replace(source: Path, target: Path) -> None:
    """Put what was written in the place of what an earlier run left, or take that away."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    if source.exists():
        os.replace(source, target)
