"""Cases of baselines and of soft targets, a node each, in the form of the ablations' cases."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.comparison.plan import Case, Plan
from kdad.pipelines.ablation.pipeline import prepare_categories
from kdad.pipelines.ablation.summary_pipeline import bind_first
from kdad.pipelines.paper_tables.other_nodes import measure_baseline_case, measure_soft_target_case

SPACE = "tables."


def create_baseline_cases(plan: Plan) -> Pipeline:
    """Prepare each category once, and run every baseline on it with every seed."""

    def inputs(case: Case) -> dict[str, str]:
        category = {name: f"{case.category}.{name}" for name in ("split_table", "source_activations")}
        return {**category, "folder": f"{case.category}.baseline_folder"}

    return prepare_categories(plan) + _cases(plan, measure_baseline_case, inputs)


def create_soft_target_cases(plan: Plan) -> Pipeline:
    """Distil on every class alone, with every seed."""
    return _cases(plan, measure_soft_target_case, lambda _: {"folder": "soft_target_folder", "seed": "params:seed"})


def _cases(plan: Plan, measure: Callable[..., Any], inputs: Callable[[Case], dict[str, str]]) -> Pipeline:
    return Pipeline(
        [
            Node(
                bind_first(measure, case),
                inputs={
                    **inputs(case),
                    "dataset": f"params:categories.{case.category}.dataset",
                    "compute": "params:compute",
                },
                outputs=f"{SPACE}{case.namespace}.result",
                name="measure_variant",
                namespace=case.namespace,
                tags=["variant", case.axis, case.variant],
            )
            for case in plan.cases
        ]
    )
