"""A table of images in, a table of predictions out: what a logged model does in the process that loads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kdad import __version__, detectors
from kdad.detectors.folder import FACTS
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.parameters.strict import nearest_name
from kdad.serving.answers import answer, naming_row
from kdad.serving.intake import ImageInput

COLUMN = "image"
_BATCH = 8


def open_logged(folder: str | Path) -> Predictor:
    """Open the detector of a logged model.

    Raises `InputError`, with both versions, where another version of the package logged it and this one cannot read it.
    """
    try:
        return detectors.load(folder)
    except InputError as error:
        logged = _package_of(Path(folder))
        if logged in (None, __version__):
            raise
        raise InputError(
            f"the model was logged by kdad {logged}, and this is kdad {__version__}, which cannot read it ({error}); "
            f"use kdad {logged}, or log the detector again by a run of this version"
        ) from error


def _package_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / FACTS).read_text(encoding="utf-8")).get("package")
    except (OSError, ValueError, AttributeError):
        return None


def predict_table(predictor: Predictor, given: Any, with_map: bool = False, paths: bool = True) -> pd.DataFrame:
    """Judge a table with the column ``image``, or an array `(B, H, W, 3)` uint8; a few images in memory at once.

    The table that is returned has the given one's index and ``score``, ``threshold``, ``decision``, and ``map`` where
    that is asked for. Raises `InputError` naming the row that cannot be judged; `paths` says whether a text may be one.
    """
    values, index = _column_of(given)
    intake, rows = ImageInput(predictor), []
    for start in range(0, len(values), _BATCH):
        prepared = []
        for row, value in enumerate(values[start : start + _BATCH], start):
            with naming_row(row):
                prepared.append(intake.prepare(value, paths))
        found = predictor.predict_batch(torch.from_numpy(np.stack([one.image for one in prepared])))
        for row, (prediction, one) in enumerate(zip(found, prepared, strict=True), start):
            with naming_row(row):
                rows.append(answer(prediction, predictor, one.placement, with_map))
    return pd.DataFrame(rows, index=index)


def _column_of(given: Any) -> tuple[list[Any], pd.Index]:
    """Return the images and the rows' names; raises `InputError` for other columns, or without rows."""
    if isinstance(given, np.ndarray):
        if given.ndim != 4:
            raise InputError(f"an array of shape {given.shape} is no batch of images; give (B, H, W, 3)")
        values: list[Any] = list(given)
        index = pd.RangeIndex(len(values))
    elif isinstance(given, pd.DataFrame):
        check_columns([str(name) for name in given.columns])
        values, index = given[COLUMN].tolist(), given.index
    else:
        raise InputError(f"the input is {type(given).__name__}; give a table with the column '{COLUMN}'")
    if not values:
        raise InputError("the table is empty; give at least one row")
    return values, index


def check_columns(names: list[str]) -> None:
    """Raise `InputError` unless the one column is that of images."""
    if len(names) == 1 and names[0] == COLUMN:
        return
    if COLUMN not in names:
        raise InputError(f"the table has no column '{COLUMN}'{nearest_name(COLUMN, names)}")
    others = ", ".join(f"'{name}'" for name in names if name != COLUMN)
    raise InputError(f"the table has more than the one column '{COLUMN}': {others or 'twice the same'}; leave it out")
