"""Two detectors on the same image files: each file is decoded once, and predicted by both."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdad.detectors.predictor import PIXELS_TOGETHER, FilePrediction, Predictor, Read, read_or_say
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError
from kdad.experiments.tables import mcnemar
from kdad.images.files.decoding import decode_raw, read_ahead, reading_threads
from kdad.images.files.fitting import Preparation
from kdad.images.files.value_range import ValueRange
from kdad.images.folder import hash_file
from kdad.images.layouts.layout import FoundImages, batches_of
from kdad.inference.description import predict_by_tiles
from kdad.inference.parameters import ComparisonParameters
from kdad.inference.predictions import AnyPredictor
from kdad.parameters.written_names import printable

#: The detectors in tables: the one in use, and the one that may replace it.
NAMES = ("a", "b")
_BATCH = 8

Pair = tuple[FilePrediction, FilePrediction]


def choose_predictors(detectors: Sequence[Predictor], comparison: ComparisonParameters) -> list[AnyPredictor]:
    """Return what decides for each detector: by its common threshold, that of a category, or that of tiles.

    Raises `InputError` that names the detector which has none.
    """
    chosen: list[AnyPredictor] = []
    for name, detector in zip(NAMES, detectors, strict=True):
        try:
            detector.require_threshold()
            of_category = detector if comparison.category is None else detector.for_category(comparison.category)
            tiles = comparison.tiles
            chosen.append(of_category if tiles is None else predict_by_tiles(detector, tiles, _BATCH))
        except InputError as error:
            raise InputError(f"{name.upper()} of comparison.detectors: {error}") from error
    return chosen


def predict_both(detectors: Sequence[AnyPredictor], paths: list[Path]) -> Iterator[Pair]:
    """Yield what each of two detectors says of every file, in their order; a few images are in memory at once."""
    if any(isinstance(one, TiledPredictor) for one in detectors):  # which takes one large image at a time
        yield from zip(*(one.predict_files(paths) for one in detectors), strict=True)
        return
    read = partial(read_for_all, preparations=[detector.preparation for detector in detectors])
    for batch in batches_of(paths, _BATCH, PIXELS_TOGETHER):
        by_detector = zip(*read_ahead(read, batch, reading_threads()), strict=True)
        found = [one.predict_read(batch, list(own)) for one, own in zip(detectors, by_detector, strict=True)]
        yield from zip(*found, strict=True)


def read_for_all(path: Path, preparations: Sequence[Preparation]) -> list[Read]:
    """Return an image as each preparation makes it, or why it cannot; the file is decoded once for equal bands."""
    decode = cache(decode_raw)

    def read(path: Path, values: ValueRange | None, bands: tuple[int, ...] | None) -> np.ndarray:
        return decode(path, bands).scaled(values, str(path))

    return [read_or_say(path, preparation, read) for preparation in preparations]


def find_seen(images: FoundImages, detectors: Sequence[Predictor]) -> list[str | None]:
    """Say of each image which detectors were trained or calibrated on it: ``A``, ``B``, ``A, B``, or None."""
    seen = {name.upper(): one.seen for name, one in zip(NAMES, detectors, strict=True)}
    digests = [hash_file(path) if any(seen.values()) else "" for path in images.paths]
    return [", ".join(name for name, own in seen.items() if digest in own) or None for digest in digests]


#: By a detector's thresholds, how far each lies above the median of the normal scores that it was set on.
Units = dict[float, float]


def margin_units(detectors: Sequence[AnyPredictor]) -> list[Units] | None:
    """Return the units of each detector's margins; by tiles also those of images that one tile holds.

    None where one of them is no positive number.
    """
    units = []
    for one in detectors:
        deciding = [one, one.detector] if isinstance(one, TiledPredictor) else [one]
        medians = [np.median(of.validation_scores) if of.validation_scores.size else np.nan for of in deciding]
        values = [of.threshold.value for of in deciding]
        units.append({value: float(value - median) for value, median in zip(values, medians, strict=True)})
    known = [unit for own in units for unit in own.values()]
    return units if all(np.isfinite(unit) and unit > 0 for unit in known) else None


def table_row(
    name: str, label: int | None, pair: Pair, units: Sequence[Units] | None, seen: str | None = None
) -> dict[str, Any]:
    """Return a row of the table: path, label, and score, margin and decision by each detector, or the problem.

    The margin is how far a score lies above its own threshold, in `units`, or as it is for None.
    """
    row: dict[str, Any] = {"path": printable(name), "label": label, "seen": seen}
    problems = dict.fromkeys(one.problem for one in pair if one.problem is not None)
    row["problem"] = printable("; ".join(problems)) if problems else None
    for place, (detector, one) in enumerate(zip(NAMES, pair, strict=True)):
        found = None if problems else one.prediction
        unit = 1.0 if found is None or units is None else units[place][found.threshold]
        row[f"score_{detector}"] = None if found is None else found.score
        row[f"margin_{detector}"] = None if found is None else (found.score - found.threshold) / unit
        row[f"decision_{detector}"] = None if found is None else int(found.decision)
    return row


def measure_comparison(table: pd.DataFrame) -> dict[str, Any]:
    """Count what two detectors decide in a table of `table_row`; with labels, how often each is wrong, and McNemar's p.

    Images that a detector was made of are not counted. Counts that need labels are None without any.
    """
    problems, seen = table["problem"].notna(), table["seen"].notna()
    predicted = table[~problems & ~seen]
    decisions = {name: predicted[f"decision_{name}"].astype(int) for name in NAMES}
    known = predicted["label"].notna()
    labels = predicted.loc[known, "label"].astype(int)
    right = {name: decision[known] == labels for name, decision in decisions.items()}
    alone = [int((right[own] & ~right[other]).sum()) for own, other in (NAMES, NAMES[::-1])]
    labelled = len(labels) > 0

    def count(name: str, label: int) -> int | None:
        return int((~right[name] & (labels == label)).sum()) if labelled else None

    return {
        "images": len(predicted),
        "unreadable": int(problems.sum()),
        "seen": int(seen.sum()),
        **{f"seen_by_{name}": int(table["seen"].str.contains(name.upper()).sum()) for name in NAMES},
        "flips": int((predicted["decision_a"] != predicted["decision_b"]).sum()),
        "labelled": len(labels),
        "only_a_is_right": alone[0] if labelled else None,
        "only_b_is_right": alone[1] if labelled else None,
        "mcnemar_p_value": mcnemar(*alone) if labelled else None,
        **{
            name: {"anomalous": int(decisions[name].sum()), "false_alarms": count(name, 0), "missed": count(name, 1)}
            for name in NAMES
        },
    }
