"""The parameters of `conf/base`, the least that a run needs, and how one of their values is changed."""

import copy
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from projects import PROJECT

#: The files of `conf/base` that hold parameters.
BASE_FILES = sorted((PROJECT / "conf/base/parameters").glob("*.yml"))


def base_parameters() -> dict[str, Any]:
    """Return all blocks of `conf/base`, each once."""
    return copy.deepcopy(_read_base())


@cache
def _read_base() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in BASE_FILES:
        blocks = yaml.safe_load(path.read_text())
        assert not found.keys() & blocks.keys(), path
        found |= blocks
    return found


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation is, or may be."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        found = [inner_model(inner) for inner in get_args(annotation) if inner is not NoneType]
        return next((model for model in found if model is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def least_parameters() -> dict:
    """Return the least that a run needs; everything else has a default."""
    return {
        "seed": 0,
        "dataset": {"name": "textures", "category": "brick", "image_size": 64},
        "source": {},
        "features": {},
        "compute": {},
        "cloner": {"architecture": {}, "loss": {}, "training": {"epochs": 2}},
        "scoring": {
            "localisation": ["discrepancy"],
            "detection": {},
            "forward_map": {},
            "gradient_map": {},
            "smoothing": {"discrepancy": {}},
        },
        "measuring": {},
        "reporting": {},
        "inference": {},
        "comparison": {},
        "calibration": {},
        "export": {},
        "stfpm": {"training": {"epochs": 1}},
        "reverse_distillation": {"training": {"epochs": 1}},
        "efficient_ad": {"training": {"epochs": 1}},
        "committee": {},
        "teacher": {"dense": {}, "training": {"epochs": 1}},
        "students": {"training": {"epochs": 1}},
        "student_scoring": {"localisation": ["combined"], "smoothing": {"combined": {}}},
        "students_ablation": {"variants": {"axis": {"question": "?", "compare_with": "a", "variants": {"a": {}}}}},
        "soft_target": {
            "teacher": {"widths": [4], "hidden": 4, "steps": 1},
            "student": {"widths": [2], "hidden": 4, "steps": 1},
            "temperatures": [1, 4],
            "alphas": [0.5],
            "label_counts": [2],
        },
        "baselines": {"methods": {"nearest": {"detector": "knn", "representation": "pixels"}}},
        "paper_tables": {"methods": {"mkd": {"system": "mkd"}}},
        "committee_ablation": {"variants": {"axis": {"question": "?", "compare_with": "a", "variants": {"a": {}}}}},
        "mkd_ablation": {"variants": {"axis": {"question": "?", "compare_with": "a", "variants": {"a": {}}}}},
    }


def changed(values: dict, path: str, value) -> dict:
    """Return a copy with one field, given as ``block.field``, set."""
    result = copy.deepcopy(values)
    *blocks, field = path.split(".")
    inner = result
    for block in blocks:
        inner = inner[block]
    inner[field] = value
    return result
