"""Nodes that plan cases, open their images, and run them; a case that fails does not stop the others."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from kdad.errors import IncompleteError
from kdad.experiments.paper_plan import PLANNED
from kdad.experiments.plan import Plan
from kdad.experiments.result import CaseResult
from kdad.experiments.run_plan import Caches, CaseSettings, extract_plan_features, run_here
from kdad.experiments.workers import check_scheduler, run_on_workers
from kdad.features.extraction import FeatureSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split
from kdad.parameters.blocks import ComputeParameters, ReportingParameters, WorkersParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import printable
from kdad.pipelines.ingestion.nodes import split_images, validate_images
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores
from kdad.storage.provenance import code_version


def plan_cases(name: str, workers: WorkersParameters, **blocks: Any) -> list[Plan]:
    """Plan the cases of a pipeline, and see that a scheduler answers if one is named, before anything is computed."""
    check_scheduler(workers)
    # Kedro binds a block to its model where a node of the run takes it so.
    plain = {key: block.model_dump() if isinstance(block, BaseModel) else block for key, block in blocks.items()}
    return PLANNED[name].plan(plain)


def prepare_images(plans: list[Plan], stores: Stores, seed: int) -> tuple[dict[str, FeatureSet], pd.DataFrame]:
    """Open, check and split the images of each category once; return them, and one table of all splits."""
    categories, tables = {}, []
    for name, dataset in {name: one for plan in plans for name, one in plan.datasets.items()}.items():
        images = open_image_set(dataset, seed, ContentStore(stores.features))
        table = split_images(validate_images(images), dataset, seed)
        categories[name] = FeatureSet(images, Split(table), {})
        tables.append(table.assign(category=name))
    return categories, pd.concat(tables, ignore_index=True)


def extract_features(
    plans: list[Plan], categories: dict[str, FeatureSet], stores: Stores, compute: ComputeParameters, seed: int
) -> Caches:
    """Check every case on its images before anything trains, and run the frozen networks that most cases share."""
    found = [extract_plan_features(plan, categories, stores, compute, seed) for plan in plans]
    return {pair: caches for pairs in found for pair, caches in pairs.items()}


def run_cases(
    system: str,
    plans: list[Plan],
    categories: dict[str, FeatureSet],
    caches: Caches,
    stores: Stores,
    compute: ComputeParameters,
    measuring: MeasuringParameters,
    reporting: ReportingParameters,
    workers: WorkersParameters,
    seed: int,
) -> list[CaseResult]:
    """Run the cases of a system, in this process or on workers; a failed case's result says its error."""
    settings = CaseSettings(stores, compute, measuring, seed, reporting.case_sheet_rows)
    chosen = [plan.of_system(system) for plan in plans]
    if workers.is_this_process:
        return run_here(chosen, categories, caches, settings)
    return run_on_workers(chosen, categories, caches, settings, workers)


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
