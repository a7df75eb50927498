"""Parameters of earlier versions: what each is called now, or why it is gone; one table for all ways to give them."""

from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from operator import getitem
from typing import Any

from kdad.errors import InputError

_LAB = "see docs/lab/removed_rules.md"
_NO_GAIN = f"removed, as it helped nowhere: {_LAB}"
_VALIDATION = f"removed, as validation images shaped scores by it and then set the threshold: {_LAB}"
_MAP = f"removed: the forward map is scored, by scoring.forward_map and scoring.smoothing; {_LAB}"
_SHAPED = "by which validation images may have shaped scores, and then set the threshold"
_PER_PIXEL = "scoring.detection.normalisation=position"

#: By dotted name, or name=value where only that value is gone: what to do instead. A longer place may stand before.
FORMER: dict[str, str] = {
    **{
        f"{block}.{name}": f"now measuring.{name}"
        for block in ("scoring", "student_scoring", "baselines")
        for name in ("threshold_quantile", "bootstrap_resamples", "max_fpr")
    },
    "mkd_ablation.sheet_rows": "now reporting.case_sheet_rows",
    "students_ablation.sheet_rows": "now reporting.case_sheet_rows",
    "patches.size": "now students.receptive_fields",
    "patches.per_image": "now teacher.patches_per_epoch",
    "measuring.cross_fit": f"now dataset.validation_fraction=auto; {_LAB}",
    "training.loss_quantile": "removed, as it helped nowhere: see docs/lab/contamination.md",
    "cloner.count": _NO_GAIN,
    "cloner.architecture.hidden_widths": f"removed with cloner.count; {_LAB}",
    "cloner.architecture.widths": _NO_GAIN,
    "cloner.architecture.size=free": _NO_GAIN,
    "scoring.choose": _NO_GAIN,
    "scoring.choosing": _NO_GAIN,
    "scoring.detection.score=both_maps_top_mean": _VALIDATION,
    "scoring.detection.normalisation=validation": _VALIDATION,
    _PER_PIXEL: "now per_pixel",
    "scoring.detection.term": _MAP,
    "scoring.detection.fusion": _MAP,
    "scoring.detection.smoothing": _MAP,
    "scoring.detection.quantity": _NO_GAIN,
    "scoring.detection.weighting": _VALIDATION,
    "scoring.forward_map.quantity": _NO_GAIN,
    "scoring.forward_map.weighting": _VALIDATION,
    "scoring.forward_map.normalisation": f"now scoring.detection.normalisation, none or per_pixel; {_LAB}",
    "scoring.gradient_map.normalisation": _NO_GAIN,
    "scoring.gradient_map.guided": _NO_GAIN,
    "students.augmentation": _NO_GAIN,
    "student_scoring.error": _NO_GAIN,
    "student_scoring.normalisation=held_out": "now overall, of training images",
    "student_scoring.normalisation=position": "now per_pixel",
    "stfpm.normalisation=position": "now per_pixel",
    "baselines.normalisation=position": "now per_pixel",
    "committee.weighting": _VALIDATION,
    "export.format": "removed: ONNX is written, which export.runtime, onnxruntime or openvino, runs",
}

_ANY = object()
#: Of a kept detector: the value by which this version predicts as the one that kept it did.
_HARMLESS = {
    "training.loss_quantile": _ANY,
    "cloner.count": 1,
    "cloner.architecture.hidden_widths": None,
    "cloner.architecture.widths": None,
    "scoring.choose": "none",
    "scoring.choosing": _ANY,
    "scoring.forward_map.quantity": "discrepancy",
    "scoring.forward_map.weighting": "equal",
    "scoring.forward_map.normalisation": "none",
    "scoring.gradient_map.normalisation": "none",
    "scoring.gradient_map.guided": "cloner",
    "students.augmentation": _ANY,
    "student_scoring.error": "absolute",
}


def former_lines(parameters: dict[str, Any]) -> list[str]:
    """Return a line for each parameter of an earlier version among nested blocks: its place, and what to do instead."""
    return [f"  {'.'.join(place)}: {FORMER[key]} (given: {value!r})" for place, key, value in _former(parameters)]


def without_former(blocks: dict[str, Any]) -> dict[str, Any]:
    """Return a kept detector's blocks without former parameters that its scores do not depend on.

    Raises `InputError` that names all others, with the reason of each.
    """
    kept = deepcopy(blocks)
    refused: dict[str, list[str]] = {}
    for place, key, value in _former(blocks):
        *above, name = place
        block = reduce(getitem, above, kept)
        if key == _PER_PIXEL:
            block[name] = "per_pixel"
        elif key in _HARMLESS and _HARMLESS[key] in (_ANY, value):
            del block[name]
        else:
            why = FORMER[key] if FORMER[key].startswith("removed") else _SHAPED
            refused.setdefault(why, []).append(f"{'.'.join(place)}={value}")
    if refused:
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in refused.items())
        raise InputError(f"it predicts by {listed}; train the detector again")
    return kept


def _former(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield the place, the key in `FORMER` and the value of each former parameter."""
    for name, value in values.items():
        place = (*above, str(name))
        names = [".".join(place[start:]) for start in range(len(place))]
        keys = [key for each in names for key in (each, f"{each}={value}") if key in FORMER]
        if keys:
            yield place, keys[0], value
        elif isinstance(value, dict):
            yield from _former(value, place)
