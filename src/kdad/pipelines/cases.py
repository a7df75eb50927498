"""What every plan goes through: cases planned, images opened, frozen networks run, cases run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

from kdad.errors import IncompleteError
from kdad.experiments.case import CaseResult
from kdad.experiments.plan import PLANNED, Plan
from kdad.experiments.run import Caches, CaseSettings, extract_plan_features, run_here
from kdad.experiments.workers import check_scheduler, run_on_workers
from kdad.features.extraction import FeatureSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split
from kdad.parameters.blocks import ComputeParameters, ReportingParameters, WorkersParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import BoxedNode, blocks, made, own, shared
from kdad.pipelines.detector import bind_first
from kdad.pipelines.ingestion.nodes import split_images, validate_images
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores
from kdad.storage.provenance import code_version


def plan_cases(name: str, workers: WorkersParameters, **given: Any) -> list[Plan]:
    """Plan the cases of a pipeline, and see that a scheduler answers if one is named, before anything is computed."""
    check_scheduler(workers)
    # Kedro binds a block to its model where a node of the run takes it so.
    plain = {key: block.model_dump() if isinstance(block, BaseModel) else block for key, block in given.items()}
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
        raise IncompleteError(f"{len(missing)} cases are missing:\n" + "\n".join(lines))


def describe_origin(origin: str) -> str:
    """Say which code made the results, and which the page."""
    return f"results of {origin}; page of commit {code_version(Path.cwd()) or 'unknown'}"


def describe_root(dataset: DatasetParameters) -> str:
    """Say where the images are from; nothing of an embedded set."""
    return f", from {printable(dataset.origin)}" if dataset.origin else ""


def create_cases(name: str) -> Pipeline:
    """Plan the cases, open each category's images once, run frozen networks over them, run the cases of each system."""
    images, planned = own(name, "plans", "categories"), PLANNED[name]
    machine = shared("stores") | blocks("compute", "seed")
    case_inputs = images | machine | own(name, "caches") | blocks("measuring", "reporting", "workers")
    return Pipeline(
        [
            _node(name, bind_first(plan_cases, name), blocks("workers", *planned.blocks), f"{name}.plans"),
            _node(
                name,
                prepare_images,
                own(name, "plans") | shared("stores") | blocks("seed"),
                made(name, "categories", "split_table"),
            ),
            BoxedNode(
                extract_plan_features,
                images | machine,
                f"{name}.caches",
                name=f"{name}_extract_features",
                namespace="features",
            ),
            *(
                BoxedNode(
                    bind_first(run_cases, system),
                    case_inputs,
                    f"{name}.{system}.results",
                    name=f"{name}_run_{system}",
                    namespace="fit_and_score",
                )
                for system in planned.systems
            ),
        ]
    )


def _node(plan: str, function: Callable[..., Any], inputs: dict[str, str], outputs: str | list[str]) -> Node:
    return BoxedNode(function, inputs, outputs, name=f"{plan}_{function.__name__}", namespace="ingestion")


def results_of(name: str) -> list[str]:
    """Return the names of the data sets that hold the results of each system."""
    return [f"{name}.{system}.results" for system in PLANNED[name].systems]


def report_missing(name: str) -> Node:
    """Return the node that ends the run with an error for missing cases, after the page is written."""
    inputs = [f"{name}.missing", f"{name}.page"]
    return BoxedNode(stop_on_failures, inputs, None, name=f"{name}_report_missing", namespace="report")
