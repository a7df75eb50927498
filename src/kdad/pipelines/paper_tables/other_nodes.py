"""Nodes of cases that are no ablation's: a baseline, or soft targets, on one category with one seed."""

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.comparison.plan import Case
from kdad.compute import prepare_compute
from kdad.content_store import ContentStore
from kdad.detectors.baselines.measuring import measure_baseline, obtain_baseline, read_cost, test_scores
from kdad.detectors.baselines.parameters import BaselineParameters
from kdad.detectors.baselines.runs import BaselineRun
from kdad.features.cache import ActivationCache
from kdad.images.ground_truth import read_ground_truth
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters
from kdad.pipelines.ablation.nodes import failed_result, handing_errors_on, planned_key
from kdad.pipelines.soft_target.nodes import disagreement_auroc, one_class_student, open_distillation

logger = logging.getLogger(__name__)


def _as_result(measure: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return `measure` with the case's facts beside what it returns; an error becomes a failed result."""

    @wraps(measure)
    def run(case: Case, **inputs: Any) -> dict[str, Any]:
        found = handing_errors_on(measure)(case, **inputs)
        if found.get("error"):
            return failed_result(case, found["error"])
        logger.info("%s: %s", case.namespace, "found done" if found["reused"] else "finished")
        facts = {"status": "finished", "error": None, "settings": case.settings, "planned": planned_key(case)}
        return {**case.head, **facts, **found}

    return run


@_as_result
def measure_baseline_case(
    case: Case,
    split_table: pd.DataFrame,
    source_activations: ActivationCache,
    folder: Path,
    dataset: dict[str, Any],
    compute: dict[str, Any],
) -> dict[str, Any]:
    """Fit and score the baseline that the case is named after, or find it done, and measure it."""
    settings = BaselineParameters(**case.blocks["baselines"])
    machine = prepare_compute(ComputeParameters(**compute))
    run = BaselineRun(source_activations, split_table, settings, machine, case.seed)
    run.check()
    place, reused = obtain_baseline(run, case.variant, ContentStore(folder))
    truth = read_ground_truth(split_table, open_image_set(DatasetParameters(**dataset)))
    cost = read_cost(place)
    return {
        "method": settings.present[case.variant].detector,
        "metrics": measure_baseline(place, case.variant, split_table, settings, truth),
        "threshold": float(test_scores(place, split_table, settings)["threshold"].iloc[0]),
        "train_seconds": cost["fit_seconds"],
        **cost,
        "reused": reused,
    }


@_as_result
def measure_soft_target_case(
    case: Case, folder: Path, dataset: dict[str, Any], compute: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Distil on the case's class alone, or find it done, and detect the other classes by disagreement."""
    distillation = open_distillation(folder, dataset, case.blocks["soft_target"], compute, seed)
    number = DatasetParameters(**dataset).normal_class
    student = one_class_student(distillation, number, case.seed)
    auroc = disagreement_auroc(distillation, student, number, case.seed)
    return {"method": "disagreement", "metrics": {"image_auroc": auroc}, "reused": student.reused}
