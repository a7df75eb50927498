"""The pipeline `baselines`: what the papers compare with, a case each, in one table and on one page."""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.experiments.pages import baseline_table, render_baselines, sheets_of
from kdad.experiments.plan import Plan
from kdad.experiments.result import CaseResult, in_plan_order, made_by, missing
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.comparison.ablation import describe_bases
from kdad.pipelines.comparison.cases import create_cases, report_missing, results_of
from kdad.pipelines.comparison.nodes import describe_origin, describe_root

_MADE = ("table", "metrics_by_method", "sheets", "page", "missing", "detectors")


def create_pipeline() -> Pipeline:
    """Run every baseline, and every system that stands among them, and compare them."""
    summary = Node(
        compare_baselines,
        inputs=["baselines.plans", "params:dataset", *results_of("baselines")],
        outputs=[f"baselines.{name}" for name in _MADE],
        name="baselines_compare",
    )
    return create_cases("baselines") + Pipeline([summary, report_missing("baselines")])


def compare_baselines(
    plans: list[Plan], dataset: DatasetParameters, *results: list[CaseResult]
) -> tuple[pd.DataFrame, dict[str, dict[str, float]], dict[str, bytes], str, pd.DataFrame, dict[str, Path]]:
    """Return a row a baseline with its metrics and cost, its numbers, its sheets, the page, what is missing, detectors.

    Detectors are the folders where their cases keep them.
    """
    (plan,) = plans
    current = in_plan_order(plan.cases, [result for found in results for result in found])
    table = baseline_table(plan.cases, current)
    numbers = table.set_index("method").select_dtypes("number")
    sheets = sheets_of(current)
    facts = (
        f"{dataset.size[0]} x {dataset.size[1]} pixels{describe_root(dataset)}, {describe_bases(plan)}, "
        f"seed {plan.cases[0].seed}; {describe_origin(made_by(current))}"
    )
    absent = missing(current)
    page = render_baselines(f"Baselines: {dataset.name} / {dataset.category_name}", facts, table, sheets, absent)
    kept = {result.variant: Path(result.folder) / "detector" for result in current if result.finished}
    metrics = {name: row.dropna().to_dict() for name, row in numbers.iterrows()}
    return table, metrics, {f"{name}.png": png for name, png in sheets.items()}, page, absent, kept
