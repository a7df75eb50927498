"""Nodes of a student ablation's cases; what fails becomes a result that says so."""

from pathlib import Path
from typing import Any

import pandas as pd

from kdad.comparison.plan import Case, Plan
from kdad.comparison.student_stages import (
    StudentSurroundings,
    map_student_case,
    measure_student_case,
    train_student_case,
)
from kdad.pipelines.ablation.nodes import failed_result, handing_errors_on, planned_key
from kdad.pipelines.students.nodes import check_inputs


def check_variants(plan: Plan, **split_tables: pd.DataFrame) -> bool:
    """Check images, splits and natural images of every case before anything trains; raises `InputError`."""
    for case in plan.cases:
        dataset, blocks = plan.datasets[case.category], case.blocks
        check_inputs(split_tables[case.category], dataset, blocks["teacher"], blocks["students"])
    return True


@handing_errors_on
def train_variant(case: Case, checked: bool, **shared: Any) -> dict[str, Any]:
    """Train the case's teachers and students."""
    return train_student_case(case, _surroundings(**shared))


@handing_errors_on
def map_variant(case: Case, trained: dict[str, Any], **shared: Any) -> dict[str, Any]:
    """Map the test images by the case's students."""
    return map_student_case(case, trained, _surroundings(**shared))


def measure_variant(
    case: Case, trained: dict[str, Any], mapped: dict[str, Any], sheet_rows: int, **shared: Any
) -> dict[str, Any]:
    """Measure the case; a failed case's result says its error."""
    result = handing_errors_on(measure_student_case)(case, trained, mapped, _surroundings(**shared), sheet_rows)
    return failed_result(case, result["error"]) if result["error"] else {**result, "planned": planned_key(case)}


def _surroundings(
    dataset: dict[str, Any],
    compute: dict[str, Any],
    split_table: pd.DataFrame,
    teacher_folder: Path,
    descriptor_folder: Path,
    student_folder: Path,
    map_folder: Path,
    every_class: Path | None = None,
) -> StudentSurroundings:
    folders = (teacher_folder, descriptor_folder, student_folder, map_folder, every_class)
    return StudentSurroundings(dataset, compute, split_table, *folders)
