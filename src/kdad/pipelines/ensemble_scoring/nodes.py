"""Nodes of the pipeline `ensemble_scoring`."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from kdad.detectors.uninformed_students.maps import (
    MapConstants,
    fuse_maps,
    predictive_variance,
    regression_error,
    spread_grid,
)
from kdad.detectors.uninformed_students.parameters import StudentParameters, StudentScoringParameters, TeacherParameters
from kdad.errors import InputError
from kdad.features.image_descriptors import ImageDescriptors, images_in
from kdad.images.ground_truth import scored_rows, split_rows
from kdad.networks.patch_descriptor import StudentEnsemble
from kdad.networks.weights_file import NetworkWeightsDataset
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.students.nodes import reopen_descriptors
from kdad.scoring.decisions import decide
from kdad.scoring.detection import map_scores
from kdad.scoring.map_stack import write_stack

_BATCH_PIXELS = 4 * 128 * 128
_CHUNK = 16
#: What each method adds up, of every receptive field.
_PARTS = {"combined": ("e", "v"), "regression_error": ("e",), "predictive_variance": ("v",)}


def map_students(
    split_table: pd.DataFrame,
    teachers: dict[str, Any],
    descriptors: dict[str, Any],
    students: dict[str, Any],
    folder: Path,
    dataset: dict[str, Any],
    teacher: dict[str, Any],
    student_settings: dict[str, Any],
    compute: dict[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Map e and v of each receptive field on the grid of descriptors (e_p17, v_p17, ...), held-out images first."""
    started = time.perf_counter()
    rows = scored_rows(split_table)
    stacks = {}
    for field, trained in students.items():
        opened = reopen_descriptors(
            *(split_table, teachers[field], descriptors[field]["folder"], field),
            *(dataset, teacher, student_settings, compute),
        )
        ensemble = load_students(trained, teachers[field], field, teacher, student_settings, opened)
        height, width = (-(-side // opened.stride) for side in opened.image_set.size)
        variances = np.empty((len(rows), height, width), np.float32)
        errors = _errors(opened, ensemble, rows, variances, f"Mapping p = {field}")
        stacks[f"e_p{field}"] = write_stack(folder / f"e_p{field}.npy", variances.shape, errors)
        stacks[f"v_p{field}"] = write_stack(folder / f"v_p{field}.npy", variances.shape, [variances])
    return stacks, {"scoring": time.perf_counter() - started}


def load_students(
    trained: dict[str, Any],
    teacher_found: dict[str, Any],
    field: str,
    teacher: dict[str, Any],
    students: dict[str, Any],
    descriptors: ImageDescriptors,
) -> StudentEnsemble:
    """Read an ensemble; raises `InputError` when it learnt from another teacher or has another count of members."""
    weights = NetworkWeightsDataset(filepath=trained["file"]).load()
    if weights.metadata.get("teacher") != teacher_found["key"]:
        raise InputError(f"'{trained['file']}' learnt from another teacher; run the pipeline 'students' again")
    wanted = TeacherParameters(**teacher)
    ensemble = StudentEnsemble(StudentParameters(**students).count, int(field), wanted.depth, wanted.width, 0)
    try:
        ensemble.load_state_dict(weights.state)
    except RuntimeError as error:
        raise InputError(
            f"'{trained['file']}' holds other students than asked for; run the pipeline 'students' again"
        ) from error
    return descriptors.compute.place(ensemble).eval()


@torch.no_grad()
def _errors(
    opened: ImageDescriptors, ensemble: StudentEnsemble, rows: np.ndarray, variances: np.ndarray, title: str
) -> Iterator[np.ndarray]:
    """Yield e `(B, h, w)` batch by batch, and put v into its rows of `variances`."""
    size = images_in(_BATCH_PIXELS, opened.image_set.size)
    for start in track(range(0, len(rows), size), description=title, transient=True):
        batch = rows[start : start + size]
        with opened.compute.autocast():
            predictions = ensemble.dense(opened.images(batch), opened.stride)
        predictions = predictions.float()
        variances[start : start + len(batch)] = predictive_variance(predictions).cpu().numpy()
        yield regression_error(predictions, opened.targets(batch)).cpu().numpy()


def combine_maps(
    split_table: pd.DataFrame,
    grid_maps: dict[str, np.ndarray],
    dataset: dict[str, Any],
    students: dict[str, Any],
    student_scoring: dict[str, Any],
    folder: Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Normalise e and v by held-out normal images, add them up over receptive fields, spread them to every pixel.

    Returns a stack for each localisation method, and the constants. ``combined_p17`` is of one receptive field, and is
    left out where there is only one or another.
    """
    parameters, size = StudentParameters(**students), DatasetParameters(**dataset).size
    held_out = len(split_rows(split_table, "validation"))
    names = [f"{part}_p{field}" for field in parameters.receptive_fields for part in ("e", "v")]
    constants = {name: MapConstants.measure(grid_maps[name][:held_out]) for name in names}
    stacks = {}
    for method in StudentScoringParameters(**student_scoring).localisation:
        kind, _, only = method.partition("_p") if method.startswith("combined_p") else (method, "", "")
        fields = [field for field in parameters.receptive_fields if not only or field == int(only)]
        if not fields or (only and len(parameters.receptive_fields) == 1):
            continue
        parts = [f"{part}_p{field}" for field in fields for part in _PARTS[kind]]
        count = len(grid_maps[names[0]])
        chunks = (
            spread_grid(
                fuse_maps([(grid_maps[part][i : i + _CHUNK], constants[part]) for part in parts], len(fields)),
                parameters.output_stride,
                size,
            )
            for i in range(0, count, _CHUNK)
        )
        stacks[method] = write_stack(folder / f"{method}.npy", (count, *size), chunks)
    return stacks, {name: asdict(found) for name, found in constants.items()}


def calibrate_student_threshold(
    split_table: pd.DataFrame, anomaly_maps: dict[str, np.ndarray], student_scoring: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score images by their first map, set the threshold on held-out normal images and decide."""
    settings = StudentScoringParameters(**student_scoring)
    scores = map_scores(anomaly_maps[settings.localisation[0]], settings.score, settings.top_fraction)
    return decide(split_table, scored_rows(split_table), scores, settings.threshold_quantile)
