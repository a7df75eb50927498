"""Every case of a plan as a node in a box of its own, after each category has been prepared once."""

from kedro.pipeline import Node, Pipeline

from kdad.comparison.case import Case
from kdad.comparison.plan import Plan
from kdad.pipelines import ingestion
from kdad.pipelines.binding import bind_first
from kdad.pipelines.comparison.nodes import run_one_case, see_category, stop_on_failures

_SHARED = {"stores": "stores", "compute": "params:compute", "seed": "params:seed"}


def create_cases(plan: Plan) -> Pipeline:
    """Prepare each category once, and run every case on it."""
    prepared = sum((_ingest(category, plan.axes) for category in plan.datasets), Pipeline([]))
    systems = {(case.category, case.system): None for case in plan.cases}
    seeing = [_see(plan, category, system) for category, system in systems]
    return prepared + Pipeline([*seeing, *(_case(plan, case) for case in plan.cases)])


def result_name(plan: Plan, case: Case) -> str:
    """Return the name of the data set that holds a case's result."""
    return f"{plan.name}.{case.namespace}.result"


def report_missing(plan_name: str, what: str, tags: list[str] | None = None) -> Node:
    """Return the node that ends the run with an error for missing cases, after the page is written."""
    return Node(
        stop_on_failures,
        inputs=[f"{plan_name}.missing", f"{plan_name}.page"],
        outputs=None,
        name=f"report_missing_{what}",
        tags=tags,
    )


def _ingest(category: str, axes: list[str]) -> Pipeline:
    own = {"params:dataset": f"params:categories.{category}.dataset", "params:seed": "params:seed"}
    return Pipeline(ingestion.create_pipeline(), namespace=category, parameters=own, tags=axes)


def _see(plan: Plan, category: str, system: str) -> Node:
    return Node(
        bind_first(see_category, (plan, category, system)),
        inputs={**_SHARED, **_images(category)},
        outputs=f"{category}.{_features(plan, system)}.features",
        name=f"see_{_features(plan, system)}",
        namespace=category,
        tags=plan.axes,
    )


def _case(plan: Plan, case: Case) -> Node:
    return Node(
        bind_first(run_one_case, (case, plan.shares_classes)),
        inputs={
            **_SHARED,
            **_images(case.category),
            "features": f"{case.category}.{_features(plan, case.system)}.features",
            "measuring": "params:measuring",
            "reporting": "params:reporting",
        },
        outputs=result_name(plan, case),
        name="run_case",
        namespace=case.namespace,
        tags=["variant", case.axis, case.variant],
    )


def _images(category: str) -> dict[str, str]:
    return {"image_set": f"{category}.image_set", "split_table": f"{category}.split_table"}


def _features(plan: Plan, system: str) -> str:
    return f"{plan.name}_{system}"
