"""The end of every ablation: results by axis, tables, a page, and an error when something is missing."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.comparison.plan import Plan
from kdad.pipelines.ablation.nodes import stop_on_failures
from kdad.pipelines.ablation.summary import collect_results, summarise, write_page


def axis_names(plan: Plan) -> list[str]:
    """Return the axes of a plan, sorted; nodes that serve all of them have them as tags."""
    return sorted({case.axis for case in plan.cases})


def create_summary(plan: Plan, space: str) -> Pipeline:
    """Collect each axis's results, summarise them, draw them, and end with an error when a case is missing.

    `space` comes before the results' names.
    """
    axes = axis_names(plan)
    own = f"params:{plan.name}"
    collected = [
        Node(
            collect_results,
            inputs=[f"{space}{case.namespace}.result" for case in plan.cases if case.axis == axis],
            outputs=f"{space}{axis}.results",
            name="collect_results",
            namespace=axis,
            tags=axis,
        )
        for axis in axes
    ]
    table, csv, pairs, missing, figures, page = (
        f"{plan.name}.{name}" for name in ("summary", "summary_csv", "pairs", "missing", "figures", "page")
    )
    return Pipeline(
        [
            *collected,
            Node(
                bind_first(summarise, plan),
                inputs=[own, *(f"{space}{axis}.results" for axis in axes)],
                outputs=[table, csv, pairs, missing],
                name="summarise_variants",
                tags=axes,
            ),
            Node(
                bind_first(write_page, plan),
                inputs=[table, pairs, missing, own, "params:dataset"],
                outputs=[figures, page],
                name="draw_ablation",
                tags=axes,
            ),
            Node(
                stop_on_failures,
                inputs=[missing, page],
                outputs=None,
                name="report_missing_variants",
                tags=axes,
            ),
        ]
    )


def bind_first(function: Callable, first: Any) -> Callable:
    """Return `function` with its first argument fixed, under its own name.

    Settings are bound and not inputs, because kedro-mlflow would log every variant's parameters in the parent run.
    """
    bound = partial(function, first)
    signature = inspect.signature(bound)
    update_wrapper(bound, function)  # Kedro-Viz shows the function's code
    bound.__signature__ = signature  # type: ignore[attr-defined]
    return bound
