"""Every case of the plan as a namespaced copy of training, mapping and measuring, then one summary."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.comparison.plan import Case, Plan
from kdad.pipelines import features, ingestion
from kdad.pipelines.ablation.nodes import (
    check_points,
    compute_own_activations,
    map_variant,
    measure_variant,
    train_variant,
)
from kdad.pipelines.ablation.summary_pipeline import axis_names, bind_first, create_summary
from kdad.pipelines.features.nodes import compute_every_class

_SHARED_PARAMETERS = {name: name for name in ("params:seed", "params:source", "params:features", "params:compute")}


def create_pipeline(plan: Plan) -> Pipeline:
    """Prepare each category once, run every case of MKD on it, summarise."""
    return create_cases(plan) + create_summary(plan, "")


def create_cases(plan: Plan) -> Pipeline:
    """Prepare each category once, and run every case of MKD on it.

    The classes of a labelled set share one cache of activations.
    """
    axes = axis_names(plan)
    checked = Node(
        bind_first(check_points, plan),
        inputs={category: f"{category}.source_activations" for category in plan.datasets},
        outputs="variants_checked",
        name="check_variants",
        tags=axes,
    )
    cases = [node for case in plan.cases for node in _case_nodes(case)]
    return prepare_categories(plan) + Pipeline([checked, *cases])


def prepare_categories(plan: Plan) -> Pipeline:
    """Split each category's images and run the source on them, once for all classes of a labelled set."""
    axes = axis_names(plan)
    return sum((_prepare(plan, category, axes) for category in plan.datasets), _every_class(plan, axes))


def _every_class(plan: Plan, axes: list[str]) -> Pipeline:
    """Run the source over all images of a labelled set, once, where several of its classes are planned."""
    if not plan.shares_classes:
        return Pipeline([])
    first = next(iter(plan.datasets))
    inputs = {
        "folder": "every_class_folder",
        "dataset": f"params:categories.{first}.dataset",
        **{name: f"params:{name}" for name in ("source", "features", "compute")},
    }
    node = Node(compute_every_class, inputs=inputs, outputs="every_class", name="compute_every_class", tags=axes)
    return Pipeline([node])


def _prepare(plan: Plan, category: str, axes: list[str]) -> Pipeline:
    """Validate, split and measure a category's images and run the run's own source on them."""
    wanted = ("validate_images", "split_images", "compute_image_statistics")
    steps = ingestion.create_pipeline().filter(node_names=list(wanted))
    steps += features.create_selection() if plan.shares_classes else features.create_pipeline()
    own = {"params:dataset": f"params:categories.{category}.dataset"}
    shared = {"every_class"} if plan.shares_classes else None
    return Pipeline(steps, namespace=category, inputs=shared, parameters=_SHARED_PARAMETERS | own, tags=axes)


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
            bind_first(train_variant, case),
            inputs={**shared, "activations": activations, "checked": "variants_checked"},
            outputs=f"{space}.trained",
            name="train_cloner",
            **options,
        ),
        Node(
            bind_first(map_variant, case),
            inputs={**shared, "activations": activations, "trained": f"{space}.trained"},
            outputs=f"{space}.mapped",
            name="map_anomalies",
            **options,
        ),
        Node(
            bind_first(measure_variant, case),
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
        bind_first(compute_own_activations, case),
        inputs=inputs,
        outputs=activations,
        name="compute_activations",
        **options,
    )
    return [own, *nodes]
