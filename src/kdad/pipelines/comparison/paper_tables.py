"""The pipeline `paper_tables`: every cell's case, then one comparison with the printed tables."""

import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.experiments.papers import compare, misprinted_means, our_figures, render_excerpt, render_tables
from kdad.experiments.parameters import PaperTableParameters
from kdad.experiments.plan import Plan
from kdad.experiments.result import CaseResult, in_plan_order, made_by, missing
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.comparison.ablation import describe_bases
from kdad.pipelines.comparison.cases import create_cases, report_missing, results_of
from kdad.pipelines.comparison.nodes import describe_origin, describe_root

_PAPER_NAMES = {"digits": "mnist"}


def create_pipeline() -> Pipeline:
    """Run the cases of every system that has a method, and compare them with the papers."""
    compared = Node(
        compare_with_papers,
        inputs=[
            *("paper_tables.plans", "paper_results", "params:paper_tables", "params:dataset"),
            *results_of("paper_tables"),
        ],
        outputs=[f"paper_tables.{name}" for name in ("cells", "page", "excerpt", "missing")],
        name="compare_with_papers",
    )
    return create_cases("paper_tables") + Pipeline([compared, report_missing("paper_tables")])


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
