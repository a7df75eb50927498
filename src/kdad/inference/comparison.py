"""Two detectors on the same image files: each file is decoded once, and predicted by both."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdad.detectors.predictor import PIXELS_TOGETHER, FilePrediction, Predictor, Read, read_or_say
from kdad.errors import InputError
from kdad.experiments.statistics import mcnemar
from kdad.images.files.decoding import decode_raw
from kdad.images.files.fitting import Preparation
from kdad.images.files.reading import read_ahead, reading_threads
from kdad.images.files.value_range import ValueRange
from kdad.images.folder import hash_file
from kdad.images.found import FoundImages, batches_of
from kdad.parameters.written_names import printable

#: The detectors in tables: the one in use, and the one that may replace it.
NAMES = ("a", "b")
_BATCH = 8

Pair = tuple[FilePrediction, FilePrediction]


def predict_both(detectors: Sequence[Predictor], paths: list[Path]) -> Iterator[Pair]:
    """Yield what each of two detectors says of every file, in their order; a few images are in memory at once."""
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


def leave_out_seen(images: FoundImages, detectors: Sequence[Predictor]) -> tuple[FoundImages, dict[str, int]]:
    """Return the images that no detector was trained or calibrated on, and by detector how many others there are.

    Raises `InputError` where none is left.
    """
    seen = [one.seen for one in detectors]
    known = frozenset[str]().union(*seen)
    digests = [hash_file(path) if known else "" for path in images.paths]
    counts = {name: sum(map(own.__contains__, digests)) for name, own in zip(NAMES, seen, strict=True)}
    kept = [path for path, digest in zip(images.paths, digests, strict=True) if digest not in known]
    if not kept:
        raise InputError(
            f"a detector was trained or calibrated on each of the {len(images.paths)} images of '{images.place}', so "
            "that they say nothing about new ones; give comparison.images other images"
        )
    return FoundImages(images.place, kept, images.left_out), counts


def margin_units(detectors: Sequence[Predictor]) -> list[float] | None:
    """Return by detector how far its threshold lies above the median of its normal validation scores.

    None where this is no positive number for any of them.
    """
    medians = [np.median(one.validation_scores) if one.validation_scores.size else np.nan for one in detectors]
    units = [float(one.threshold.value - median) for one, median in zip(detectors, medians, strict=True)]
    return units if all(np.isfinite(unit) and unit > 0 for unit in units) else None


def table_row(name: str, label: int | None, pair: Pair, units: Sequence[float]) -> dict[str, Any]:
    """Return a row of the table: path, label, and score, margin and decision by each detector, or the problem.

    The margin is how far a score lies above its own threshold, in `units`.
    """
    row: dict[str, Any] = {"path": printable(name), "label": label}
    problems = dict.fromkeys(one.problem for one in pair if one.problem is not None)
    row["problem"] = printable("; ".join(problems)) if problems else None
    for detector, one, unit in zip(NAMES, pair, units, strict=True):
        found = None if problems else one.prediction
        row[f"score_{detector}"] = None if found is None else found.score
        row[f"margin_{detector}"] = None if found is None else (found.score - found.threshold) / unit
        row[f"decision_{detector}"] = None if found is None else int(found.decision)
    return row


def is_flip(row: dict[str, Any] | pd.DataFrame) -> bool | pd.Series:
    """Tell whether the detectors decide differently, of a row or of each row of a table."""
    return row["decision_a"] != row["decision_b"]


def measure_comparison(table: pd.DataFrame) -> dict[str, Any]:
    """Count what two detectors decide in a table of `table_row`; with labels, how often each is wrong, and McNemar's p.

    Counts that need labels are None without any.
    """
    predicted = table[table["problem"].isna()]
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
        "unreadable": len(table) - len(predicted),
        "flips": int(is_flip(predicted).sum()),
        "labelled": len(labels),
        "only_a_is_right": alone[0] if labelled else None,
        "only_b_is_right": alone[1] if labelled else None,
        "mcnemar_p_value": mcnemar(*alone) if labelled else None,
        **{
            name: {
                "anomalous": int(decisions[name].sum()),
                "false_alarms": count(name, 0),
                "missed": count(name, 1),
            }
            for name in NAMES
        },
    }
