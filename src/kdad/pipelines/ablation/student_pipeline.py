"""Every case of a student ablation as a namespaced copy of training, mapping and measuring, then one summary."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.comparison.plan import Case, Plan
from kdad.pipelines import ingestion
from kdad.pipelines.ablation.student_nodes import check_variants, map_variant, measure_variant, train_variant
from kdad.pipelines.ablation.summary_pipeline import axis_names, bind_first, create_summary

_SPACE = "students."


def create_student_pipeline(plan: Plan) -> Pipeline:
    """Prepare each category once, run every case of Uninformed Students on it, summarise."""
    return create_student_cases(plan) + create_summary(plan, _SPACE)


def create_student_cases(plan: Plan) -> Pipeline:
    """Prepare each category once, and run every case of Uninformed Students on it.

    The classes of a labelled set share one cache of each teacher's descriptors.
    """
    axes = axis_names(plan)
    prepared = sum((_prepare(category, axes) for category in plan.datasets), Pipeline([]))
    checked = Node(
        bind_first(check_variants, plan),
        inputs={category: f"{category}.split_table" for category in plan.datasets},
        outputs="student_variants_checked",
        name="check_student_variants",
        tags=axes,
    )
    cases = [node for case in plan.cases for node in _case_nodes(case, plan.shares_classes)]
    return prepared + Pipeline([checked, *cases])


def _prepare(category: str, axes: list[str]) -> Pipeline:
    steps = ingestion.create_pipeline().filter(node_names=["validate_images", "split_images"])
    own = {"params:dataset": f"params:categories.{category}.dataset", "params:seed": "params:seed"}
    return Pipeline(steps, namespace=category, parameters=own, tags=axes)


def _case_nodes(case: Case, shares_classes: bool) -> list[Node]:
    space = f"{_SPACE}{case.namespace}"
    shared = {
        "dataset": f"params:categories.{case.category}.dataset",
        "compute": "params:compute",
        "split_table": f"{case.category}.split_table",
        "teacher_folder": "teacher_folder",
        "descriptor_folder": f"{case.category}.descriptor_folder",
        "student_folder": f"{case.category}.student_folder",
        "map_folder": "student_map_folder",
    }
    if shares_classes:
        shared["every_class"] = "every_class_descriptors"
    options: dict[str, Any] = {"namespace": case.namespace, "tags": ["variant", case.axis, case.variant]}
    trained, mapped = f"{space}.trained", f"{space}.mapped"
    measured = {**shared, "trained": trained, "mapped": mapped, "sheet_rows": "params:students_ablation.sheet_rows"}
    return [
        Node(
            bind_first(train_variant, case),
            inputs={**shared, "checked": "student_variants_checked"},
            outputs=trained,
            name="train_students",
            **options,
        ),
        Node(
            bind_first(map_variant, case),
            inputs={**shared, "trained": trained},
            outputs=mapped,
            name="map_anomalies",
            **options,
        ),
        Node(
            bind_first(measure_variant, case),
            inputs=measured,
            outputs=f"{space}.result",
            name="measure_variant",
            **options,
        ),
    ]
