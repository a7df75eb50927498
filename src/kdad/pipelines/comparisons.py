"""Pipelines that run the cases of a plan and compare them: ablations, baselines, the tables that papers print."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from pydantic import BaseModel

from kdad.detectors.registry import SYSTEMS
from kdad.errors import IncompleteError
from kdad.experiments.case import CaseResult, histograms_of, in_plan_order, made_by, missing, tidy
from kdad.experiments.pages import (
    axis_section,
    baseline_table,
    draw_axis,
    draw_filter,
    render_ablation,
    render_baselines,
    sheets_of,
)
from kdad.experiments.papers import compare, misprinted_means, our_figures, render_excerpt, render_tables
from kdad.experiments.parameters import AblationParameters, PaperTableParameters
from kdad.experiments.plan import PLANNED, Plan, ablation_of
from kdad.experiments.run import Caches, CaseSettings, extract_plan_features, run_here
from kdad.experiments.steps import record_of
from kdad.experiments.tables import axis_headline, axis_table, category_table, compare_pairs
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
from kdad.project.kept_results import newest_record
from kdad.scoring.parameters import MeasuringParameters
from kdad.seeding import numpy_generator
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
    prepared = own(name, "plans") | shared("stores") | blocks("seed")
    nodes: list[tuple[str, str, Callable[..., Any], dict[str, str], str | list[str]]] = [
        ("plan_cases", "ingestion", bind_first(plan_cases, name), blocks("workers", *planned.blocks), f"{name}.plans"),
        ("prepare_images", "ingestion", prepare_images, prepared, made(name, "categories", "split_table")),
        ("extract_features", "features", extract_plan_features, images | machine, f"{name}.caches"),
        *(
            (f"run_{system}", "fit_and_score", bind_first(run_cases, system), case_inputs, f"{name}.{system}.results")
            for system in planned.systems
        ),
    ]
    return Pipeline(
        [
            BoxedNode(function, inputs, outputs, name=f"{name}_{step}", namespace=box)
            for step, box, function, inputs, outputs in nodes
        ]
    )


def create_comparison(name: str, node: str, compare: Callable[..., Any], *others: str, makes: str) -> Pipeline:
    """Run the cases, compare the results of every system in a node of that name, and end with an error for missing."""
    results = [f"{name}.{system}.results" for system in PLANNED[name].systems]
    inputs, outputs = [f"{name}.plans", *others, "params:dataset", *results], made(name, *makes.split())
    compared = BoxedNode(compare, inputs, outputs, name=node, namespace="report")
    return create_cases(name) + Pipeline([compared, report_missing(name)])


def report_missing(name: str) -> Node:
    """Return the node that ends the run with an error for missing cases, after the page is written."""
    inputs = [f"{name}.missing", f"{name}.page"]
    return BoxedNode(stop_on_failures, inputs, None, name=f"{name}_report_missing", namespace="report")


_ABLATION_PROTOCOL = (
    "Every variant is scored at its last epoch, on test images that choose nothing within the table. Defaults of MKD "
    "were chosen on the drawn defects of textures, so figures on textures compare variants and are no estimate for new "
    "data. Seeds draw initialisation and order; the split stays the same."
)
_TITLES = {"mkd_ablation": "MKD ablation", "students_ablation": "Uninformed Students ablation"}

#: What baselines are compared with: where no run of its own has trained it, the page says how one does.
_COMPARED_WITH = ("mkd", "uninformed_students")
_PAPER_NAMES = {"digits": "mnist"}


def create_ablation(system: str) -> Pipeline:
    """Run every case, summarise and draw their results, and end with an error for missing ones."""
    name = ablation_of(system)
    plan = own(name, "plans") | {"ablation": f"params:{name}"}
    summary = BoxedNode(
        summarise_variants,
        plan | {"results": f"{name}.{system}.results"},
        made(name, "summary", "summary_csv", "pairs", "missing", "origin"),
        name=f"{name}_summarise_variants",
        namespace="report",
    )
    page = BoxedNode(
        write_page,
        plan | own(name, "summary", "pairs", "missing", "origin") | blocks("dataset"),
        made(name, "figures", "page", "headline"),
        name=f"{name}_draw",
        namespace="report",
    )
    return create_cases(name) + Pipeline([summary, page, report_missing(name)])


def summarise_variants(
    plans: list[Plan], ablation: AblationParameters, results: list[CaseResult]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return the tidy table of every planned case (twice: parquet and csv), paired differences, what is missing, and
    which code made the results.
    """
    seed = plans[0].cases[0].seed
    pairs = [
        compare_pairs(results, histograms_of, name, axis, ablation.resamples, numpy_generator(seed, "pairs", name))
        for name, axis in ablation.chosen.items()
    ]
    table = tidy(results)
    return table, table, pd.concat(pairs, ignore_index=True), missing(results), made_by(results)


def write_page(
    plans: list[Plan],
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    missing: pd.DataFrame,
    origin: str,
    ablation: AblationParameters,
    dataset: DatasetParameters,
) -> tuple[dict[str, Figure], str, dict[str, dict[str, float]]]:
    """Draw a figure for each axis, write the page that holds everything, and return each axis' reference and best."""
    (plan,) = plans
    settings = {(case.axis, case.variant): case.overrides for case in plan.cases}
    sections, figures, headline = [], {}, {}
    for name, axis in ablation.chosen.items():
        rows = axis_table(summary, name, axis)
        headline[name] = axis_headline(rows, axis)
        draw = draw_filter if name == "filter" else draw_axis
        found = {variant: settings[name, variant] for variant in axis.present}
        figures[f"{name}.png"] = draw(rows, f"{dataset.name}: {axis.question}")
        shown = pairs[pairs["axis"] == name]
        by_category = category_table(summary, name, axis)
        sections.append(axis_section(name, axis.question, rows, shown, figures[f"{name}.png"], found, by_category))
    categories = ", ".join(dict.fromkeys(case.category for case in plan.cases))
    facts = (
        f"{dataset.name} ({categories}), {dataset.size[0]} x {dataset.size[1]} pixels{describe_root(dataset)}, "
        f"{describe_bases(plan)}, seeds {', '.join(map(str, ablation.seeds))}; {describe_origin(origin)}"
    )
    title = _TITLES.get(plan.name, plan.name.replace("_", " ").capitalize())
    page = render_ablation(title, facts, _ABLATION_PROTOCOL, sections, missing)
    return figures, page, headline


def describe_bases(plan: Plan) -> str:
    """Say what the cases look through; single variants may look through something else."""
    seen = {system: SYSTEMS[system].detector.describe(base) for system, base in plan.bases.items()}
    return ", ".join(f"{system} through {what}" for system, what in seen.items())


def create_baselines() -> Pipeline:
    """Run every baseline, and every system that stands among them, and compare them."""
    makes = "table metrics_by_method sheets page missing detectors"
    others = "baselines.categories", "baselines.place"
    return create_comparison("baselines", "baselines_compare", compare_baselines, *others, makes=makes)


def compare_baselines(
    plans: list[Plan],
    categories: dict[str, FeatureSet],
    place: Path,
    dataset: DatasetParameters,
    *results: list[CaseResult],
) -> tuple[pd.DataFrame, dict[str, dict[str, float]], dict[str, bytes], str, pd.DataFrame, dict[str, Path]]:
    """Return a row a baseline with its metrics and cost, its numbers, its sheets, the page, what is missing, detectors.

    Detectors are the folders where their cases keep them. Those that other pipelines have trained on the same images
    lie in `place`; they are read, and have a row each.
    """
    (plan,), (images,) = plans, categories.values()
    origin = record_of(images, plan.cases[0].seed)
    others = [system for system in SYSTEMS if system not in {case.variant for case in plan.cases}]
    records = {system: newest_record(place, system, origin) for system in others}
    trained = {system: record for system, record in records.items() if record is not None}
    current = in_plan_order(plan.cases, [result for found in results for result in found])
    table = baseline_table(plan.cases, current, trained)
    numbers = table.set_index("method").select_dtypes("number")
    sheets = sheets_of(current)
    facts = (
        f"{dataset.size[0]} x {dataset.size[1]} pixels{describe_root(dataset)}, {describe_bases(plan)}, "
        f"seed {plan.cases[0].seed}; {describe_origin(made_by(current))}"
    )
    absent = missing(current)
    untrained = [system for system in _COMPARED_WITH if system not in trained]
    title = f"Baselines: {dataset.name} / {dataset.category_name}"
    page = render_baselines(title, facts, table, sheets, absent, untrained)
    kept = {result.variant: Path(result.folder) / "detector" for result in current if result.finished}
    metrics = {name: row.dropna().to_dict() for name, row in numbers.iterrows()}
    return table, metrics, {f"{name}.png": png for name, png in sheets.items()}, page, absent, kept


def create_paper_tables() -> Pipeline:
    """Run the cases of every system that has a method, and compare them with the papers."""
    others, makes = ("paper_results", "params:paper_tables"), "cells page excerpt missing"
    return create_comparison("paper_tables", "compare_with_papers", compare_with_papers, *others, makes=makes)


def compare_with_papers(
    plans: list[Plan],
    paper_results: pd.DataFrame,
    paper_tables: PaperTableParameters,
    dataset: DatasetParameters,
    *results: list[CaseResult],
) -> tuple[pd.DataFrame, str, str, pd.DataFrame]:
    """Return the cells, the page, the README's excerpt, and the planned cells that are missing."""
    every = [result for found in results for result in found]
    # A category at an image size of its own is the same category of the papers.
    labels = {name: one.category_name for plan in plans for name, one in plan.datasets.items()}
    current = [
        result.model_copy(update={"category": labels[result.category]})
        for plan in plans
        for result in in_plan_order(plan.cases, every)
    ]
    name = paper_tables.paper_dataset or _PAPER_NAMES.get(dataset.name, dataset.name)
    printed = paper_results[paper_results["dataset"] == name]
    if paper_tables.tables != ["all"]:
        printed = printed[printed["table"].isin(paper_tables.tables)]
    named = {own: method.paper for own, method in paper_tables.present.items()}
    names = {case.variant: named.get(case.variant, []) for plan in plans for case in plan.cases}
    shown = {own: method.tables for own, method in paper_tables.present.items()}
    cells = compare(printed, our_figures(current), names, shown)
    absent = missing(current)
    facts = _facts(plans, paper_tables, dataset, name, made_by(current))
    page = render_tables(f"The papers' tables: {name}", facts, cells, absent, misprinted_means(printed))
    return cells, page, render_excerpt(facts, cells), absent


def _facts(
    plans: list[Plan], paper_tables: PaperTableParameters, dataset: DatasetParameters, name: str, origin: str
) -> str:
    other = f", beside the papers' {name}" if name != dataset.name else ""
    sizes = "".join(
        f" ({own} {method.image_size})" for own, method in paper_tables.present.items() if method.image_size is not None
    )
    looked = "; ".join(describe_bases(plan) for plan in plans)
    return (
        f"{dataset.name}{other}, {dataset.size[0]} x {dataset.size[1]} pixels{sizes}{describe_root(dataset)}, "
        f"{looked}, seeds {', '.join(map(str, paper_tables.seeds))}; {describe_origin(origin)}"
    )
