"""Every case of a plan as a node in a box of its own, after each category has been prepared once.

Results are collected by axis inside the axis's box: outside, a plan of hundreds of cases is a few boxes.
"""

from functools import partial

from kedro.pipeline import Node, Pipeline

from kdad.experiments.case import Case
from kdad.experiments.plan import Plan
from kdad.experiments.result import failed_case
from kdad.pipelines import ingestion
from kdad.pipelines.binding import bind_first
from kdad.pipelines.comparison.nodes import collect_results, run_one_case, see_category, stop_on_failures

#: The tag of nodes that a cluster's worker may run: what they take and make lies in files.
WORKER = "worker"
_SHARED = {"stores": "stores", "compute": "params:compute", "seed": "params:seed"}


def create_cases(*plans: Plan) -> Pipeline:
    """Prepare each category once, run every case of `plans` on it, and collect the results by axis."""
    collected = [_collect(name, results) for name, results in _results_by_axis(plans).items()]
    return sum((_create_plan(plan) for plan in plans), Pipeline([])) + Pipeline(collected)


def collected_names(*plans: Plan) -> list[str]:
    """Return the names of the data sets that hold the results of each axis of `plans`."""
    return [f"{plan}.{axis}.results" for plan, axis in _results_by_axis(plans)]


def _results_by_axis(plans: tuple[Plan, ...]) -> dict[tuple[str, str], list[str]]:
    """Return the names of results by plan and axis; plans of different image sizes share theirs."""
    found: dict[tuple[str, str], list[str]] = {}
    for plan in plans:
        for case in plan.cases:
            found.setdefault((plan.name, case.axis), []).append(result_name(plan, case))
    return found


def _collect(name: tuple[str, str], results: list[str]) -> Node:
    plan, axis = name
    return Node(
        collect_results,
        inputs=results,
        outputs=f"{plan}.{axis}.results",
        name="collect_results",
        namespace=axis,
        tags=axis,
    )


def _create_plan(plan: Plan) -> Pipeline:
    prepared = sum((_ingest(category, plan.axes) for category in plan.datasets), Pipeline([]))
    systems = {(case.prepared, case.system): None for case in plan.cases}
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
    return Pipeline(ingestion.create_pipeline(), namespace=category, parameters=own, tags=[WORKER, *axes])


def _see(plan: Plan, category: str, system: str) -> Node:
    alone = plan.axes == [plan.name]  # what such a plan sees stays inside its box; axes of an ablation share it
    return Node(
        bind_first(see_category, (plan, category, system)),
        inputs={**_SHARED, **_images(category)},
        outputs=f"{category}.{_features(plan, system)}.features",
        name=f"see_{_features(plan, system)}",
        namespace=f"{plan.name}.{category}" if alone else category,
        tags=[WORKER, *plan.axes],
    )


def _case(plan: Plan, case: Case) -> Node:
    run = bind_first(run_one_case, (case, plan.shares_classes))
    run.give_up = partial(failed_case, case)  # type: ignore[attr-defined]  # what a cluster says of it that lost it
    return Node(
        run,
        inputs={
            **_SHARED,
            **_images(case.prepared),
            "features": f"{case.prepared}.{_features(plan, case.system)}.features",
            "measuring": "params:measuring",
            "reporting": "params:reporting",
        },
        outputs=result_name(plan, case),
        name="run_case",
        namespace=case.namespace,
        tags=[WORKER, "variant", case.axis, case.variant],
    )


def _images(category: str) -> dict[str, str]:
    return {"image_set": f"{category}.image_set", "split_table": f"{category}.split_table"}


def _features(plan: Plan, system: str) -> str:
    return f"{plan.name}_{system}"
