"""What is done for one case of a student ablation: train teachers and students, map anomalies, measure."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdad.comparison.measuring import Judged, Truth, measure_maps
from kdad.comparison.plan import Case
from kdad.content_store import ContentStore, content_key
from kdad.detectors.uninformed_students.parameters import StudentParameters, StudentScoringParameters, TeacherParameters
from kdad.images.ground_truth import read_ground_truth
from kdad.images.image_set import hash_content
from kdad.images.registry import open_image_set
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.ensemble_scoring.nodes import calibrate_student_threshold, combine_maps, map_students
from kdad.pipelines.students.nodes import describe_images, train_students
from kdad.pipelines.teacher.nodes import train_teachers
from kdad.scoring.smoothing import smooth_stack


@dataclass(frozen=True)
class StudentSurroundings:
    """What the student cases of a category share: data, machine, and the folders of finished work.

    `every_class` is where the classes of a labelled set share their descriptors.
    """

    dataset: dict[str, Any]
    compute: dict[str, Any]
    split_table: pd.DataFrame
    teachers: Path
    descriptors: Path
    students: Path
    maps: Path
    every_class: Path | None = None


def train_student_case(case: Case, around: StudentSurroundings) -> dict[str, Any]:
    """Train the case's teachers and students, or find them trained; return where they are and what they cost."""
    teacher, students = case.blocks["teacher"], case.blocks["students"]
    table, dataset, compute = around.split_table, around.dataset, around.compute
    teachers, _ = train_teachers(around.teachers, teacher, students, compute, case.seed)
    shared = (dataset, teacher, students, compute)
    described = describe_images(table, teachers, around.descriptors, *shared, around.every_class)
    trained, history = train_students(table, teachers, described, around.students, *shared, case.seed)
    key = content_key(students=[found["key"] for found in trained.values()])
    path = around.students / f"{key}.loss_history.csv"
    history.to_csv(path, index=False)
    return {
        "key": key,
        "teachers": teachers,
        "descriptors": described,
        "students": trained,
        "loss_history": str(path),
        "reused": all(found["reused"] for found in trained.values()),
        "seconds": sum(found["seconds"] for found in [*teachers.values(), *trained.values()]),
        "parameters": sum(found["parameters"] for found in trained.values()),
        "flops": _flops(StudentParameters(**students), TeacherParameters(**teacher), DatasetParameters(**dataset).size),
    }


def map_student_case(case: Case, trained: dict[str, Any], around: StudentSurroundings) -> dict[str, Any]:
    """Map e and v of the case's students on their grid, or find them mapped; return the folder."""
    key = content_key(trained=trained["key"], images=around.split_table.to_csv())
    found = tuple(trained[name] for name in ("teachers", "descriptors", "students"))
    shared = (around.dataset, case.blocks["teacher"], case.blocks["students"], around.compute)

    def build(folder: Path) -> None:
        map_students(around.split_table, *found, folder, *shared)

    folder, _ = ContentStore(around.maps).obtain(key, build)
    return {"key": key, "folder": str(folder)}


def measure_student_case(
    case: Case, trained: dict[str, Any], mapped: dict[str, Any], around: StudentSurroundings, sheet_rows: int
) -> dict[str, Any]:
    """Combine, smooth and measure the case's maps, or find them measured; return what summaries are made of."""
    table, scoring = around.split_table, case.blocks["student_scoring"]
    settings = StudentScoringParameters(**scoring)
    method = settings.localisation[0]
    images = open_image_set(DatasetParameters(**around.dataset))
    ground_truth = read_ground_truth(table, images)
    key = content_key(
        maps=mapped["key"],
        masks=[ground_truth.reason, hash_content(ground_truth.masks.tobytes())],
        scoring=scoring,
        sheet_rows=sheet_rows,
    )

    def build(folder: Path) -> None:
        started = time.perf_counter()
        grid = {path.stem: np.load(path, mmap_mode="r") for path in Path(mapped["folder"]).glob("*.npy")}
        one = {**scoring, "localisation": [method]}
        raw, _ = combine_maps(table, grid, around.dataset, case.blocks["students"], one, folder / "raw")
        maps = smooth_stack(raw[method], settings.smoothing[method], folder / "maps.npy")
        scores, threshold = calibrate_student_threshold(table, {method: maps}, one)
        judged = Judged(scores, threshold, method, maps, raw[method])
        measured = measure_maps(judged, settings, Truth(table, images, ground_truth), sheet_rows, folder)
        for stack in (folder / "maps.npy", folder / "raw" / f"{method}.npy"):
            stack.unlink()
        measured["measuring_seconds"] = time.perf_counter() - started
        (folder / "result.json").write_text(json.dumps(measured))

    folder, reused = ContentStore(around.maps).obtain(key, build)
    measured = json.loads((folder / "result.json").read_text())
    return {
        **case.head,
        "key": key,
        "status": "finished",
        "error": None,
        "settings": case.settings,
        "method": method,
        **measured,
        "train_seconds": trained["seconds"],
        "seconds": trained["seconds"] + measured["measuring_seconds"],
        "reused": trained["reused"] and reused,
        "parameters": trained["parameters"],
        "flops": trained["flops"],
        "folder": str(folder),
        "network": "students",
        "loss_history": trained["loss_history"],
    }


def _flops(students: StudentParameters, teacher: TeacherParameters, size: tuple[int, int]) -> int:
    """Count the multiplications and additions of teachers and students over one image."""
    total = 0
    for field in students.receptive_fields:
        network = PatchDescriptor(field, teacher.depth, teacher.width)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.dense(torch.zeros(1, 3, *size), students.output_stride)
        total += counter.get_total_flops() * (1 + students.count)
    return total
