"""Every case of the plan as a namespaced copy of training, mapping and measuring, then one summary."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.ablation.variants import Case, Plan
from kdad.pipelines import features, ingestion
from kdad.pipelines.ablation.nodes import (
    check_points,
    compute_own_activations,
    map_variant,
    measure_variant,
    stop_on_failures,
    train_variant,
)
from kdad.pipelines.ablation.summary import collect_results, summarise, write_page

_SHARED_PARAMETERS = {name: name for name in ("params:seed", "params:source", "params:features", "params:compute")}


def create_pipeline(plan: Plan) -> Pipeline:
    """Prepare each category once, run every case on it, summarise; tags are the names of axes and variants."""
    axes = sorted({case.axis for case in plan.cases})
    prepared = sum((_prepare(category, axes) for category in plan.datasets), Pipeline([]))
    checked = Node(
        _bound(check_points, plan),
        inputs={category: f"{category}.source_activations" for category in plan.datasets},
        outputs="variants_checked",
        name="check_variants",
        tags=axes,
    )
    cases = [node for case in plan.cases for node in _case_nodes(case)]
    collected = [
        Node(
            collect_results,
            inputs=[f"{case.namespace}.result" for case in plan.cases if case.axis == axis],
            outputs=f"{axis}.results",
            name="collect_results",
            namespace=axis,
            tags=axis,
        )
        for axis in axes
    ]
    results = [f"{axis}.results" for axis in axes]
    summary = [
        Node(
            _bound(summarise, plan),
            inputs=["params:mkd_ablation", *results],
            outputs=["ablation_summary", "ablation_summary_csv", "ablation_pairs", "ablation_missing"],
            name="summarise_variants",
            tags=axes,
        ),
        Node(
            _bound(write_page, plan),
            inputs=[
                "ablation_summary",
                "ablation_pairs",
                "ablation_missing",
                "params:mkd_ablation",
                "params:dataset",
                "params:source",
            ],
            outputs=["ablation_figures", "ablation_page"],
            name="draw_ablation",
            tags=axes,
        ),
        Node(
            stop_on_failures,
            inputs=["ablation_missing", "ablation_page"],
            outputs=None,
            name="report_missing_variants",
            tags=axes,
        ),
    ]
    return prepared + Pipeline([checked, *cases, *collected, *summary])


def _prepare(category: str, axes: list[str]) -> Pipeline:
    """Validate, split and measure a category's images and run the run's own source on them."""
    wanted = ("validate_images", "split_images", "compute_image_statistics")
    steps = ingestion.create_pipeline().filter(node_names=list(wanted)) + features.create_pipeline()
    own = {"params:dataset": f"params:categories.{category}.dataset"}
    return Pipeline(steps, namespace=category, parameters=_SHARED_PARAMETERS | own, tags=axes)


def _case_nodes(case: Case) -> list[Node]:
    space, category = case.namespace, case.category
    common = {
        "dataset": f"params:categories.{category}.dataset",
        "compute": "params:compute",
        "split_table": f"{category}.split_table",
        "image_statistics": f"{category}.image_statistics",
    }
    shared = {**common, "model_folder": "ablation_model_folder", "map_folder": "ablation_map_folder"}
    options: dict[str, Any] = {"namespace": space, "tags": ["variant", case.axis, case.variant]}
    activations = f"{category}.source_activations" if case.shares_source else f"{space}.own_activations"
    nodes = [
        Node(
            _bound(train_variant, case),
            inputs={**shared, "activations": activations, "checked": "variants_checked"},
            outputs=f"{space}.trained",
            name="train_cloner",
            **options,
        ),
        Node(
            _bound(map_variant, case),
            inputs={**shared, "activations": activations, "trained": f"{space}.trained"},
            outputs=f"{space}.mapped",
            name="map_anomalies",
            **options,
        ),
        Node(
            _bound(measure_variant, case),
            inputs={
                **shared,
                "trained": f"{space}.trained",
                "mapped": f"{space}.mapped",
                "sheet_rows": "params:mkd_ablation.sheet_rows",
            },
            outputs=f"{space}.result",
            name="measure_variant",
            **options,
        ),
    ]
    if case.shares_source:
        return nodes
    inputs = {**common, "folder": "ablation_activation_folder", "checked": "variants_checked"}
    own = Node(
        _bound(compute_own_activations, case), inputs=inputs, outputs=activations, name="compute_activations", **options
    )
    return [own, *nodes]


def _bound(function: Callable, first: Any) -> Callable:
    """Return `function` with its first argument fixed, under its own name.

    Settings are bound and not inputs, because kedro-mlflow would log every variant's parameters in the parent run.
    """
    bound = partial(function, first)
    signature = inspect.signature(bound)
    update_wrapper(bound, function)  # Kedro-Viz shows the function's code
    bound.__signature__ = signature  # type: ignore[attr-defined]
    return bound
