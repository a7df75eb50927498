"""The steps that every plan goes through: cases are planned, images opened, frozen networks run, cases run."""

from kedro.pipeline import Node, Pipeline

from kdad.experiments.paper_plan import PLANNED
from kdad.pipelines.comparison.nodes import (
    extract_features,
    plan_cases,
    prepare_images,
    run_cases,
    stop_on_failures,
)
from kdad.pipelines.detector import bind_first


def create_cases(name: str) -> Pipeline:
    """Plan the cases, open each category's images once, run frozen networks over them, run the cases of each system."""
    blocks = ("workers", *PLANNED[name].blocks)
    images = {"plans": f"{name}.plans", "categories": f"{name}.categories"}
    shared = {"stores": "stores", "compute": "params:compute", "seed": "params:seed"}
    case_blocks = {block: f"params:{block}" for block in ("measuring", "reporting", "workers")}
    prepared = [
        Node(
            bind_first(plan_cases, name),
            inputs={block: f"params:{block}" for block in blocks},
            outputs=f"{name}.plans",
            name=f"{name}_plan_cases",
        ),
        Node(
            prepare_images,
            inputs={"plans": f"{name}.plans", "stores": "stores", "seed": "params:seed"},
            outputs=[f"{name}.categories", f"{name}.split_table"],
            name=f"{name}_prepare_images",
        ),
        Node(
            extract_features,
            inputs=images | shared,
            outputs=f"{name}.caches",
            name=f"{name}_extract_features",
        ),
    ]
    running = [
        Node(
            bind_first(run_cases, system),
            inputs=images | shared | case_blocks | {"caches": f"{name}.caches"},
            outputs=f"{name}.{system}.results",
            name=f"{name}_run_{system}",
        )
        for system in PLANNED[name].systems
    ]
    return Pipeline([*prepared, *running])


def results_of(name: str) -> list[str]:
    """Return the names of the data sets that hold the results of each system."""
    return [f"{name}.{system}.results" for system in PLANNED[name].systems]


def report_missing(name: str) -> Node:
    """Return the node that ends the run with an error for missing cases, after the page is written."""
    inputs = [f"{name}.missing", f"{name}.page"]
    return Node(stop_on_failures, inputs=inputs, outputs=None, name=f"{name}_report_missing")
