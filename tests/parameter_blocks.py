"""The least parameters that a run needs, and how one of their values is changed."""

import copy


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
        "calibration": {},
        "export": {},
        "stfpm": {"training": {"epochs": 1}},
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
