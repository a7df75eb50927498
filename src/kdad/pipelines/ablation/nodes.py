"""Nodes of the pipeline `mkd_ablation`; a case that fails hands its error on, so that the others go on."""

import logging
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.comparison.plan import Case, Plan
from kdad.comparison.stages import Surroundings, map_case, measure_case, train_case
from kdad.compute import choose_compute
from kdad.content_store import ContentStore, content_key
from kdad.errors import InputError
from kdad.features.activations import cache_activations, prepare_source
from kdad.features.cache import ActivationCache, open_cache
from kdad.images.registry import open_image_set
from kdad.networks.architectures import build_source
from kdad.networks.points import choose_points
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters, FeatureParameters, SourceParameters

logger = logging.getLogger(__name__)


def handing_errors_on(stage: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return `stage` with its exceptions as results ``{"error": text}``; an error among its inputs passes through."""

    @wraps(stage)
    def run(case: Case, *inputs: Any, **named: Any) -> dict[str, Any]:
        earlier = next((i for i in (*inputs, *named.values()) if isinstance(i, dict) and i.get("error")), None)
        if earlier is not None:
            return earlier
        try:
            return stage(case, *inputs, **named)
        except Exception as error:  # whatever it is, the other cases can still run
            logger.error("%s failed: %s", case.namespace, error)
            logger.debug("%s", traceback.format_exc())
            return {"error": f"{type(error).__name__}: {error}"}

    return run


def check_points(plan: Plan, **activations: ActivationCache) -> bool:
    """Check that every critical point that a case names is one of its source's, before anything trains."""
    for case in plan.cases:
        if case.shares_source:
            names = activations[case.category].names
        else:
            source = build_source(case.blocks["source"]["name"])
            names = source.select(
                case.blocks["source"]["critical_points"] or list(source.critical_points)
            ).critical_points
        where = f"mkd_ablation.variants.{case.axis}.variants.{case.variant}"
        scoring = case.blocks["scoring"]
        choose_points(case.blocks["cloner"]["training_points"], names, f"{where}.cloner.training_points")
        for block in ("detection", "forward_map", "gradient_map"):
            choose_points(scoring[block]["points"], names, f"{where}.scoring.{block}.points")
    return True


@handing_errors_on
def compute_own_activations(
    case: Case,
    split_table: pd.DataFrame,
    image_statistics: dict[str, Any],
    dataset: dict[str, Any],
    compute: dict[str, Any],
    folder: Path,
    checked: bool,
) -> dict[str, Any]:
    """Run a source that only this case has, once; return the folder of its activations."""
    machine = ComputeParameters(**compute)
    source, features = SourceParameters(**case.blocks["source"]), FeatureParameters(**case.blocks["features"])
    place = folder / case.category / content_key(source=case.blocks["source"], features=case.blocks["features"])
    cache_activations(
        place,
        prepare_source(source, image_statistics),
        source,
        open_image_set(DatasetParameters(**dataset)),
        split_table,
        features,
        choose_compute(machine.device, machine.precision),
    )
    return {"folder": str(place)}


@handing_errors_on
def train_variant(case: Case, activations: Any, checked: bool, **shared: Any) -> dict[str, Any]:
    """Train the case's cloner."""
    return train_case(case, _opened(activations), _surroundings(**shared))


@handing_errors_on
def map_variant(case: Case, trained: dict[str, Any], activations: Any, **shared: Any) -> dict[str, Any]:
    """Map the test images by the case's method."""
    return map_case(case, trained, _opened(activations), _surroundings(**shared))


def measure_variant(
    case: Case, trained: dict[str, Any], mapped: dict[str, Any], sheet_rows: int, **shared: Any
) -> dict[str, Any]:
    """Measure the case; a failed case's result says its error."""
    result = handing_errors_on(measure_case)(case, trained, mapped, _surroundings(**shared), sheet_rows)
    return failed_result(case, result["error"]) if result["error"] else {**result, "planned": planned_key(case)}


def failed_result(case: Case, error: str) -> dict[str, Any]:
    """Return the result of a case that failed."""
    return {
        **case.head,
        "status": "failed",
        "error": error,
        "settings": case.settings,
        "metrics": {},
        "planned": planned_key(case),
    }


def planned_key(case: Case) -> str:
    """Return a key of what the plan wants of a case, by which a summary tells results of other settings."""
    return content_key(case=case.head, blocks=case.blocks)


def stop_on_failures(missing: pd.DataFrame, page: str) -> None:
    """Raise `InputError` when a case is missing; taking the `page`, it comes after everything else is reported."""
    if len(missing):
        lines = [
            f"  {row.axis}.{row.variant}, {row.category}, seed {row.seed}: {row.error}" for row in missing.itertuples()
        ]
        raise InputError(f"{len(missing)} cases are missing in the summary:\n" + "\n".join(lines))


def _opened(activations: ActivationCache | dict[str, Any]) -> ActivationCache:
    return open_cache(Path(activations["folder"])) if isinstance(activations, dict) else activations


def _surroundings(
    dataset: dict[str, Any],
    compute: dict[str, Any],
    split_table: pd.DataFrame,
    image_statistics: dict[str, Any],
    model_folder: Path,
    map_folder: Path,
) -> Surroundings:
    stores = ContentStore(model_folder), ContentStore(map_folder)
    return Surroundings(dataset, compute, split_table, image_statistics, *stores)
