"""Image files predicted one by one, and what that leaves in a folder: a table, a heat map and a thumbnail each."""

import csv
import logging
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.progress import TextColumn

from kdad.detectors.predictor import FilePrediction, Prediction, Predictor
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import PLAIN, InputError, first_of
from kdad.images.files.fitting import Placement
from kdad.images.folder import hash_file
from kdad.images.layouts.layout import FoundImages, group_of_name
from kdad.parameters.written_names import printable
from kdad.progress import progress_bar
from kdad.reporting.overlays import overlay_placed, small_overlay, thumbnail
from kdad.scoring.threshold import MarkedRegion, Threshold
from kdad.storage.replacing import is_taken, link_or_copy, put_back, replacing

logger = logging.getLogger(__name__)

#: A detector, an exported file, or either by tiles.
AnyPredictor = Predictor | TiledPredictor

COLUMNS = (
    *("path", "score", "threshold", "decision", "percentile", "height", "width", "milliseconds", "label", "seen"),
    *("problem", "heat_map", "thumbnail", "regions", "boxes", "areas"),
)
#: Beside them where groups are decided on.
GROUP_COLUMNS = ("group", "group_score", "group_decision")
#: Which regions of an image are marked (`Predictor.regions`).
Mark = Callable[[Prediction, Placement], list[MarkedRegion] | None]
_LONGEST_NAME = 255  # in bytes, of a file
_FAST = 1  # of zlib's levels: several times faster than the usual, files are a tenth larger
_TEXTS = dict.fromkeys(("path", "problem", "heat_map", "thumbnail", "boxes", "areas", "group"), object)
TABLE, PAGE = "predictions.csv", "predictions.html"
#: What a watch leaves beside the table, and nobody else may replace.
JOURNAL = "journal.jsonl"
_MAPS = "maps.npy"
#: What goes when predictions are replaced: they, and what the pipeline has reported on them.
_REPLACED = ("heat_maps", "thumbnails", _MAPS, TABLE, PAGE, "contact_sheet.png", "metrics.json")


class Groups:
    """Which files are of one part by a rule of ``dataset.groups``, and what is decided of those that are there.

    `thresholds` are those by which files are predicted: that of whole images, and of tiles.
    """

    def __init__(self, by: str, thresholds: Iterable[Threshold]) -> None:
        self._by, self._thresholds = by, {one.value: one for one in thresholds if one.group_value is not None}
        #: Of each group the score and the threshold of each file, NaN twice where it could not be read.
        self._known: dict[str, dict[str, tuple[float, float]]] = {}

    def take(self, row: dict[str, Any]) -> None:
        """Take in the row of a file, in place of an earlier one of its name."""
        said = (row.get(name) for name in ("score", "threshold"))
        numbers = tuple(math.nan if value in (None, "") else float(value) for value in said)
        self._known.setdefault(group_of_name(row["path"], self._by), {})[row["path"]] = numbers

    def decide(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the group of a file that was taken in, with the score and decision by its files so far.

        None where one of them could not be read, or where some are predicted whole and some by tiles.
        """
        group = group_of_name(row["path"], self._by)
        scores, values = np.array(list(self._known[group].values())).T
        said: dict[str, Any] = {"group": printable(group)}
        if values[0] not in self._thresholds or (values != values[0]).any():
            return said
        score, is_anomalous = self._thresholds[values[0]].of_group(scores)
        return said | {"group_score": score, "group_decision": int(is_anomalous)}


def count_groups(decisions: dict[str, float | None]) -> tuple[str, dict[str, int]]:
    """Say which groups are anomalous by their decisions, and how many are not decided on; and return the counts."""
    anomalous = [group for group, decision in decisions.items() if decision == 1]
    unknown = sum(pd.isna(decision) for decision in decisions.values())
    names = f" ({first_of(anomalous, 20)})" if anomalous else ""
    left = f", {unknown} not decided on, as a file could not be read or only some are in tiles" if unknown else ""
    counts = {"groups": len(decisions), "anomalous_groups": len(anomalous)}
    return f"{len(anomalous)} of {len(decisions)} groups anomalous{names}{left}", counts


@dataclass(frozen=True)
class Predictions:
    """A finished inference: a row a file, and the pictures beside the table."""

    table: pd.DataFrame
    folder: Path

    def thumbnail(self, place: str) -> Image.Image:
        """Open the thumbnail that a row names; raises `InputError` for one outside of the folder, or no PNG."""
        path = (self.folder / place).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"'{self.folder / TABLE}' names a picture outside of its folder: '{place}'; predict again")
        try:
            return Image.open(path, formats=("PNG",))
        except OSError as error:
            raise InputError(f"'{path}' is not the picture that was written ({error}); predict again") from error


class PredictedFiles:
    """The predicted files of one folder.

    A heat map lies as its image does, or by number where that name cannot be a file's beside the others. `seen` holds
    the digests of files that the detector was made of; `mark` says which regions exceed the pixel threshold.
    """

    def __init__(
        self,
        folder: Path,
        limits: tuple[float, float] | None,
        heat_maps: bool,
        seen: frozenset[str] = frozenset(),
        mark: Mark | None = None,
    ) -> None:
        self._folder, self._limits, self._heat_maps, self._seen = folder, limits or (0.0, 1.0), heat_maps, seen
        self._mark = mark
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
                "seen": int(bool(self._seen) and hash_file(predicted.path) in self._seen),
            }
            row |= self._draw(name, predicted) | self._regions(predicted)
        self._count += 1
        return row

    def _regions(self, predicted: FilePrediction) -> dict[str, Any]:
        """Return how many regions are marked, their boxes and areas; nothing where that is not known."""
        if self._mark is None or predicted.placement is None:
            return {}
        regions = self._mark(predicted.prediction, predicted.placement)
        if regions is None:
            return {}
        boxes = "; ".join(" ".join(map(str, region.box)) for region in regions)
        return {"regions": len(regions), "boxes": boxes, "areas": "; ".join(str(region.area) for region in regions)}

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
            small = small_overlay(image, anomaly_map, self._limits, placement)
        (self._folder / "thumbnails").mkdir(exist_ok=True)
        small.save(self._folder / places["thumbnail"])
        return places

    def _choose(self, name: str) -> str:
        for place in (f"heat_maps/{PurePosixPath(name).with_suffix('.png')}", f"heat_maps/{name}.png"):
            key = place.casefold()
            above = {str(folder) for folder in PurePosixPath(key).parents}
            if not (key in self._files or key in self._folders or above & self._files) and _can_be_a_file(place):
                self._take(place)
                return place
        return f"heat_maps/{self._count:06d}.png"

    def _take(self, place: str) -> None:
        key = place.casefold()  # a disk may not tell A from a
        self._files.add(key)
        self._folders |= {str(folder) for folder in PurePosixPath(key).parents}


@contextmanager
def open_table(path: Path, mode: str, with_groups: bool = False) -> Iterator["csv.DictWriter[str]"]:
    """Open a table of predictions to write (``w``, with its first line) or to append (``a``), flushed row by row."""
    # Names that are no UTF-8 are written with escapes, so that every program can read the table.
    with path.open(mode, buffering=1, newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.DictWriter(file, COLUMNS + (GROUP_COLUMNS if with_groups else ()))
        if mode == "w":
            table.writeheader()
        yield table


def _can_be_a_file(place: str) -> bool:
    try:
        return max(len(part.encode()) for part in place.split("/")) <= _LONGEST_NAME
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False


def read_predictions(folder: Path) -> Predictions:
    """Read the table of predictions in a folder."""
    put_back(folder.resolve())
    table = pd.read_csv(
        folder / TABLE,
        dtype=_TEXTS,
        keep_default_na=False,
        na_values={name: [""] if name in _TEXTS else ["", "nan"] for name in (*COLUMNS, *GROUP_COLUMNS)},
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
    seen: frozenset[str] = frozenset(),
    mark: Mark | None = None,
    groups: Groups | None = None,
) -> Predictions:
    """Write files (name, prediction, label) one by one as they come; what an earlier run left is then replaced at once.

    `images` is where they lie, `limits` what colours run between, `map_shape` (N, H, W) that of ``maps.npy``, None
    without, `seen` the digests of files that the detector was made of, `mark` says which regions are marked,
    `groups` are the files' where those are decided on. What fails leaves the folder as it was. Raises
    `InputError`, before the first file is asked for, for a folder that holds anything else, the images among it, or
    lies among the images.
    """
    whole = folder.resolve()  # a link stays, and what it leads to is replaced
    put_back(whole)
    if images is not None:
        check_apart(whole, images.resolve())
    if is_taken(folder, TABLE):
        raise InputError(f"'{folder}' is there already and holds no predictions; give inference.output a new folder")
    if (folder / JOURNAL).exists():
        raise InputError(f"'{folder}' holds what a watch has predicted; give inference.output a new folder")
    earlier = ", in place of earlier ones" if (folder / TABLE).is_file() else ""
    logger.info("Results: %s%s", printable(str(folder)), earlier, extra=PLAIN)
    with replacing(whole) as partial:
        _write(partial, files, PredictedFiles(partial, limits, heat_maps, seen, mark), map_shape)
        if groups is not None:
            _add_groups(partial / TABLE, groups)
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


def _add_groups(path: Path, groups: Groups) -> None:
    """Write a finished table anew, with groups."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        groups.take(row)
    with open_table(path, "w", with_groups=True) as table:
        table.writerows(row | groups.decide(row) for row in rows)


def _append_map(stack: IO[bytes], predicted: FilePrediction, size: tuple[int, int]) -> None:
    """Write a map, or for a file that could not be read one that is not a number anywhere."""
    anomaly_map = np.full(size, np.nan) if predicted.prediction is None else predicted.prediction.map
    stack.write(np.ascontiguousarray(anomaly_map, dtype="<f4").tobytes())


def check_apart(folder: Path, images: Path) -> None:
    """Raise `InputError` when results would lie among the images, and be predicted next time, or replace them."""
    if images.is_dir() and folder.is_relative_to(images):
        raise InputError(
            f"results would lie in '{folder}', among the images that are predicted ('{images}'), and be taken for some "
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


def predict_found(
    predictor: AnyPredictor, images: FoundImages, batch_size: int, with_images: bool = True
) -> Iterator[FilePrediction]:
    """Yield every file with its prediction, as `predict_files` does, behind a progress bar."""
    with progress_bar(TextColumn("{task.fields[rate]}")) as bar:
        task = bar.add_task("Predicting", total=len(images.paths), rate="")
        for predicted in predictor.predict_files(images.paths, batch_size, with_images):
            yield predicted
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
            del predicted  # a large image is not kept while the next is predicted


def predict_labelled(
    predictor: AnyPredictor, images: FoundImages, batch_size: int
) -> Iterator[tuple[str, FilePrediction, int | None]]:
    """Yield every file's name, prediction and label."""
    with closing(predict_found(predictor, images, batch_size)) as predicted:
        for name, label in zip(images.names, images.labels, strict=True):
            yield name, next(predicted), label  # a zip of all three would keep an image while the next is predicted
