"""What an inference leaves in a folder: a table, a heat map and a thumbnail an image, written one by one."""

import logging
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from PIL import Image

from kdad.detectors.prediction import FilePrediction
from kdad.errors import InputError
from kdad.inference.predicted_files import COLUMNS, PredictedFiles, open_table
from kdad.logs import PLAIN
from kdad.parameters.written_names import printable
from kdad.storage.replacing import is_taken, link_or_copy, put_back, replacing

logger = logging.getLogger(__name__)

_TEXTS = dict.fromkeys(("path", "problem", "heat_map", "thumbnail"), object)
TABLE, PAGE = "predictions.csv", "predictions.html"
#: What a watch leaves beside the table, and nobody else may replace.
JOURNAL = "journal.jsonl"
_MAPS = "maps.npy"
#: What goes when predictions are replaced: they, and what the pipeline has reported on them.
_REPLACED = ("heat_maps", "thumbnails", _MAPS, TABLE, PAGE, "contact_sheet.png", "metrics.json")


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
    put_back(folder.resolve())
    table = pd.read_csv(
        folder / TABLE,
        dtype=_TEXTS,
        keep_default_na=False,
        na_values={name: [""] if name in _TEXTS else ["", "nan"] for name in COLUMNS},
        float_precision="round_trip",
    )
    return Predictions(table, folder)


def write_predictions(
    folder: Path,
    files: Iterable[tuple[str, FilePrediction, int | None]],
    images: Path | None = None,
    limits: tuple[float, float] | None = None,
    heat_maps: bool = True,
    map_shape: tuple[int, int, int] | None = None,
) -> Predictions:
    """Write files (name, prediction, label) one by one as they come; what an earlier run left is then replaced at once.

    `images` is where they lie, `limits` what colours run between, `map_shape` (N, H, W) that of ``maps.npy``, None
    without. What fails leaves the folder as it was. Raises `InputError`, before the first file is asked for, for a
    folder that holds anything else, the images among it, or lies among the images.
    """
    whole = folder.resolve()  # a link stays, and what it leads to is replaced
    put_back(whole)
    if images is not None:
        check_apart(whole, images.resolve())
    if is_taken(folder, TABLE):
        raise InputError(f"'{folder}' is there already and holds no predictions; give inference.output a new folder")
    if (folder / JOURNAL).exists():
        raise InputError(f"'{folder}' holds what a watch has judged; give inference.output a new folder")
    earlier = ", in place of earlier ones" if (folder / TABLE).is_file() else ""
    logger.info("Results: %s%s", printable(str(folder)), earlier, extra=PLAIN)
    with replacing(whole) as partial:
        _write(partial, files, PredictedFiles(partial, limits, heat_maps), map_shape)
        _take_along(whole, partial)
    return read_predictions(folder)


def _write(
    folder: Path,
    files: Iterable[tuple[str, FilePrediction, int | None]],
    pictures: PredictedFiles,
    map_shape: tuple[int, int, int] | None,
) -> None:
    maps = (folder / _MAPS).open("wb") if map_shape is not None else nullcontext()
    with open_table(folder / TABLE, "w") as table, maps as stack:
        if stack is not None:
            np.lib.format.write_array_header_1_0(stack, {"descr": "<f4", "fortran_order": False, "shape": map_shape})
        for name, predicted, label in files:
            table.writerow(pictures.add(name, predicted, label))
            if stack is not None:
                _append_map(stack, predicted, map_shape[1:])
            del predicted  # a large image is not kept while the next is predicted


def _append_map(stack: IO[bytes], predicted: FilePrediction, size: tuple[int, int]) -> None:
    """Write a map, or for a file that could not be read one that is not a number anywhere."""
    anomaly_map = np.full(size, np.nan) if predicted.prediction is None else predicted.prediction.map
    stack.write(np.ascontiguousarray(anomaly_map, dtype="<f4").tobytes())


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


def _take_along(folder: Path, successor: Path) -> None:
    """Give what a user keeps in a folder, all but what is replaced, a second place in its successor."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name in _REPLACED:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, successor / path.name, symlinks=True, copy_function=link_or_copy)
        else:
            link_or_copy(path, successor / path.name)
