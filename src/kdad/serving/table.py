"""A table of images in, a table of predictions out, by a logged model or as JSON; and what is said of an image."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from kdad import __version__, detectors
from kdad.detectors.folder import FACTS
from kdad.detectors.predictor import Prediction, Predictor, colour_limits_of
from kdad.errors import InputError
from kdad.images.files.fitting import Placement
from kdad.parameters.strict import nearest_name
from kdad.reporting.overlays import encode_picture
from kdad.scoring.threshold import Threshold
from kdad.serving.intake import ImageInput
from kdad.storage.replacing import read_facts

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def naming_row(number: int) -> Iterator[None]:
    """Have what is wrong with a row say which row it is."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"row {number}: {error}") from error


def answer(prediction: Prediction, predictor: Predictor, placement: Placement, with_map: bool) -> dict[str, Any]:
    """Return ``score``, ``threshold``, ``decision`` (1: anomalous), and ``map``: a PNG in base64, None without one.

    Raises `InputError` for a score or a map that is not finite, and so says nothing.
    """
    prediction.require_finite()
    prediction = prediction.as_placed(placement) if with_map else prediction
    said = numbers_of(prediction)
    if with_map:
        said["map"] = None if prediction.map is None else base64_png(map_picture(prediction.map, predictor, placement))
    return said


def numbers_of(prediction: Prediction) -> dict[str, float]:
    """Return what is said of every image: ``score``, ``threshold`` and ``decision`` (1: anomalous)."""
    return {"score": prediction.score, "threshold": prediction.threshold, "decision": int(prediction.decision)}


def add_group(rows: list[dict[str, Any]], threshold: Threshold) -> None:
    """Give the answers for all images of one part the score and the decision of that, ``group_score`` and the like.

    Raises `InputError` where the threshold decides on images alone.
    """
    score, is_anomalous = threshold.of_group(np.array([row["score"] for row in rows]))
    for row in rows:
        row |= {"group_score": score, "group_decision": int(is_anomalous)}


def map_picture(anomaly_map: np.ndarray, predictor: Predictor, placement: Placement) -> Image.Image:
    """Return a map in grey at the size of the image that was sent: 0 and 255 are the predictor's limits of colours.

    What the detector was not shown is 0.
    """
    low, high = predictor.colour_limits or colour_limits_of(anomaly_map)
    shown = placement.shown.cut(np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1))
    grey = Image.fromarray(np.rint(shown * 255).astype(np.uint8))
    seen = placement.seen
    grey = grey.resize((seen.width, seen.height), Image.Resampling.BILINEAR)
    if (seen.height, seen.width) == placement.own:
        return grey
    whole = Image.new("L", (placement.own[1], placement.own[0]))
    whole.paste(grey, (seen.left, seen.top))
    return whole


def base64_png(picture: Image.Image) -> str:
    """Return a picture as a PNG in base64 text."""
    return base64.b64encode(encode_picture(picture, compress_level=1)).decode("ascii")


COLUMN = "image"
_BATCH = 8
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_LISTED = ", ".join(f"'{form}'" for form in _FORMS)


def open_logged(folder: str | Path) -> Predictor:
    """Open the detector of a logged model.

    Raises `InputError`, with both versions, where another version of the package logged it and this one cannot read it.
    """
    try:
        return detectors.load(folder)
    except InputError as error:
        logged = read_facts(Path(folder) / FACTS).get("package")
        if logged in (None, __version__):
            raise
        raise InputError(
            f"the model was logged by kdad {logged}, and this is kdad {__version__}, which cannot read it ({error}); "
            f"use kdad {logged}, or log the detector again by a run of this version"
        ) from error


def predict_table(
    predictor: Predictor,
    given: Any,
    with_map: bool = False,
    paths: bool = True,
    category: str | None = None,
    group: bool = False,
) -> "pd.DataFrame":
    """Predict a table with the column ``image``, or an array `(B, H, W, 3)` uint8; a few images in memory at once.

    The table that is returned has the given one's index and ``score``, ``threshold``, ``decision``, and ``map`` where
    that is asked for. `paths` says whether a text may be one, `category` by whose threshold is decided. With `group`
    all images are of one part, whose ``group_score`` and ``group_decision`` each row has. Raises `InputError` naming
    the row that cannot be scored, for a category that the detector has not, and for one that decides on images alone.
    """
    import pandas as pd  # late: a server answers without

    predictor = predictor if category is None else predictor.for_category(category)
    if group:
        predictor.require_threshold()
        predictor.threshold.require_groups()
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
    if group:
        add_group(rows, predictor.threshold)
    return pd.DataFrame(rows, index=index)


def _column_of(given: Any) -> tuple[list[Any], "pd.Index"]:
    """Return the images and the rows' names; raises `InputError` for other columns, or without rows."""
    import pandas as pd

    if isinstance(given, np.ndarray):
        if given.ndim != 4:
            raise InputError(f"an array of shape {given.shape} is no batch of images; give (B, H, W, 3)")
        values: list[Any] = list(given)
        index = pd.RangeIndex(len(values))
    elif isinstance(given, pd.DataFrame):
        check_columns([str(name) for name in given.columns])
        values, index = given[COLUMN].tolist(), given.index
        if len(values) == 1 and _is_list_of_texts(values[0]):  # so MLflow's server hands on `inputs` and `instances`
            values = list(values[0])
            index = pd.RangeIndex(len(values))
    else:
        raise InputError(f"the input is {type(given).__name__}; give a table with the column '{COLUMN}'")
    if not values:
        raise InputError("the table is empty; give at least one row")
    return values, index


def _is_list_of_texts(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "UO" and all(isinstance(one, str) for one in value)
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def check_columns(names: list[str]) -> None:
    """Raise `InputError` unless the one column is that of images."""
    if len(names) == 1 and names[0] == COLUMN:
        return
    if COLUMN not in names:
        raise InputError(f"the table has no column '{COLUMN}'{nearest_name(COLUMN, names)}")
    others = ", ".join(f"'{name}'" for name in names if name != COLUMN)
    raise InputError(f"the table has more than the one column '{COLUMN}': {others or 'twice the same'}; leave it out")


class Wanted(NamedTuple):
    """What a request asks for besides scores: maps, decisions by the threshold of a category, and one on the part."""

    map: bool = False
    category: str | None = None
    group: bool = False


def parse_invocation(body: bytes) -> tuple[list[Any], Wanted]:
    """Return the images of a JSON body in one of MLflow's forms, base64 texts or lists, and what is wanted of them.

    Raises `InputError` for one that is cut short, of no such form, or without a row.
    """
    try:
        content = json.loads(body)
    except UnicodeDecodeError as error:
        raise InputError("the body is no UTF-8 text; give JSON, and images in base64") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON ({error}); it may have been cut short") from error
    if not isinstance(content, dict):
        raise InputError(f"the body is no JSON object; give one with {_LISTED}")
    unknown = sorted(content.keys() - {*_FORMS, "params"})
    if unknown:
        raise InputError(f"the body has an unknown field '{unknown[0]}'; known: {_LISTED}, 'params'")
    given = [form for form in _FORMS if form in content]
    if len(given) != 1:
        raise InputError(f"the body has {len(given)} of {_LISTED}; give one of them")
    params = {} if content.get("params") is None else content["params"]
    wanted = _wanted_by(params)
    values = _images_of(given[0], content[given[0]])
    if not values:
        raise InputError("the table is empty; give at least one row")
    return values, wanted


def _wanted_by(params: Any) -> Wanted:
    if not isinstance(params, dict) or not params.keys() <= {*Wanted._fields}:
        raise InputError('\'params\' takes {"map": true or false, "category": a name, "group": true or false}')
    wanted = Wanted(**params)
    flags = isinstance(wanted.map, bool) and isinstance(wanted.group, bool)
    if not flags or not isinstance(wanted.category, str | None):
        raise InputError("'map' and 'group' of 'params' are true or false, and 'category' is text or null")
    return wanted


def _images_of(form: str, content: Any) -> list[Any]:
    if form == "dataframe_split":
        return _images_of_split(content)
    column = form == "inputs" and isinstance(content, dict)
    if column:
        check_columns([str(name) for name in content])
        content = content[COLUMN]
    if not isinstance(content, list):
        raise InputError(f"'{form}' is a list of images, or of rows {{\"{COLUMN}\": ...}}")
    if column:
        return content
    images = []
    for number, row in enumerate(content):
        if isinstance(row, dict):
            with naming_row(number):
                check_columns([str(name) for name in row])
            row = row[COLUMN]
        elif form == "dataframe_records":
            raise InputError(f'row {number}: it is no object; give {{"{COLUMN}": ...}}')
        images.append(row)
    return images


def _images_of_split(content: Any) -> list[Any]:
    if not isinstance(content, dict) or not {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}:
        raise InputError("'dataframe_split' takes 'columns' and 'data', and perhaps 'index'")
    columns, rows = content["columns"], content["data"]
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise InputError("'columns' and 'data' of 'dataframe_split' are lists")
    check_columns([str(name) for name in columns])
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 1:
            raise InputError(f"row {number}: it is no list of one value; 'data' is [[image], [image], ...]")
    return [row[0] for row in rows]
