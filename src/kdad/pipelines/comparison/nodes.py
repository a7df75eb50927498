"""Nodes that prepare a category for its cases, and run them; a case that fails does not stop the others."""

import logging
import traceback
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.compute import prepare_compute
from kdad.detectors.context import TrainContext
from kdad.detectors.extraction import extract_features
from kdad.errors import IncompleteError, InputError
from kdad.experiments.case import Case
from kdad.experiments.plan import Plan
from kdad.experiments.result import CaseResult, failed_case
from kdad.experiments.run import run_case
from kdad.experiments.steps import RunContext
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.compute import ComputeParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.reporting.file_names import printable
from kdad.reporting.parameters import ReportingParameters
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores
from kdad.storage.provenance import code_version

logger = logging.getLogger(__name__)


def see_category(
    prepared: tuple[Plan, str, str],
    image_set: ImageSet,
    split_table: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
) -> dict[str, FeatureCache]:
    """Check every case of a system on a category before anything trains, and run what frozen networks they share."""
    plan, category, system = prepared
    machine = prepare_compute(compute)
    cases = [case for case in plan.cases if (case.prepared, case.system) == (category, system)]
    plain, detector, base = FeatureSet(image_set, Split(split_table), {}), cases[0].detector, plan.bases[system]
    feature_set = detector.prepare_images(base, plain, seed)
    for case in cases:
        _checking(case, plan, lambda settings: detector.check_inputs(settings, feature_set))
    references = detector.frozen_networks(
        base, feature_set, TrainContext(machine, cases[0].seed, ContentStore(stores.models), seed)
    )
    feature_set = extract_features(
        detector, base, feature_set, references, machine, ContentStore(stores.features), plan.shares_classes
    )
    for case in cases:
        if getattr(case.settings, "source", None) == getattr(base, "source", None):
            _checking(case, plan, lambda settings: detector.check(settings, feature_set))
    return feature_set.features


def run_one_case(
    prepared: tuple[Case, bool],
    image_set: ImageSet,
    split_table: pd.DataFrame,
    features: dict[str, FeatureCache],
    stores: Stores,
    compute: ComputeParameters,
    measuring: MeasuringParameters,
    reporting: ReportingParameters,
    seed: int,
) -> CaseResult:
    """Fit, map and measure a case, or find it done; a failed case's result says its error."""
    case, shares_classes = prepared
    rows = reporting.case_sheet_rows
    context = RunContext(prepare_compute(compute), stores, measuring, seed, rows, shares_classes)
    try:
        result = run_case(case, FeatureSet(image_set, Split(split_table), features), context)
    except Exception as error:  # whatever it is, the other cases can still run
        logger.error("%s failed: %s", case.namespace, error)
        logger.debug("%s", traceback.format_exc())
        return failed_case(case, f"{type(error).__name__}: {error}")
    return result


def collect_results(*results: CaseResult | None) -> list[CaseResult]:
    """Gather an axis's results, of those that there are."""
    return [result for result in results if result is not None]


def stop_on_failures(missing: pd.DataFrame, page: str) -> None:
    """Raise `IncompleteError` when a case is missing; taking the `page`, it comes after everything else is reported."""
    if len(missing):
        lines = [
            f"  {row.axis}.{row.variant}, {row.category}, seed {row.seed}: {row.error}" for row in missing.itertuples()
        ]
        raise IncompleteError(f"{len(missing)} cases are missing in {page_title(page)}:\n" + "\n".join(lines))


def describe_origin(origin: str) -> str:
    """Say which code made the results, and which the page."""
    return f"results of {origin}; page of commit {code_version(Path.cwd()) or 'unknown'}"


def describe_root(dataset: DatasetParameters) -> str:
    """Say where the images are from; nothing of an embedded set."""
    return f", from {printable(dataset.origin)}" if dataset.origin else ""


def page_title(page: str) -> str:
    """Return the title of an HTML page."""
    return page.partition("<title>")[2].partition("</title>")[0] or "the summary"


def _checking(case: Case, plan: Plan, check: Any) -> None:
    try:
        check(case.settings)
    except InputError as error:
        place = f"{plan.name}.variants.{case.axis}.variants.{case.variant}"
        raise InputError(f"{place}: {error}") from None
