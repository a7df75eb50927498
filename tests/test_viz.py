"""What Kedro-Viz shows of a plan: the experiment, on one screen."""

import warnings

import pytest
from kedro.io import CatalogConfigResolver
from kedro.pipeline import Pipeline
from kedro_viz.models.flowchart.node_metadata import TaskNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode

from kdad.detectors.registry import SYSTEMS
from kdad.pipeline_registry import register_pipelines
from kdad.pipelines import BoxedNode
from kdad.project import LOADER_ARGS
from kdad.project.configuration import RunConfigLoader
from projects import PROJECT


@pytest.fixture(scope="module")
def loader() -> RunConfigLoader:
    return RunConfigLoader(str(PROJECT / "conf"), env="test", **LOADER_ARGS)


@pytest.fixture(scope="module")
def registered() -> dict[str, Pipeline]:
    return register_pipelines()


def shown(pipeline: Pipeline) -> tuple[list[str], set[str]]:
    """Return the nodes in the order in which they run, and the data sets; parameters are hidden until asked for."""
    return [node.name for node in pipeline.nodes], {
        name for name in pipeline.datasets() if not name.startswith("params:")
    }


def test_an_ablation_reads_as_the_experiment(registered):
    nodes, data = shown(registered["mkd_ablation"])
    assert nodes == [
        f"mkd_ablation_{step}"
        for step in (
            *("plan_cases", "prepare_images", "extract_features", "run_mkd"),
            *("summarise_variants", "draw", "report_missing"),
        )
    ]
    made = ("plans", "categories", "split_table", "caches", "mkd.results", "summary", "summary_csv", "pairs")
    made += ("missing", "origin", "figures", "page", "headline")
    assert data == {"stores", *(f"mkd_ablation.{name}" for name in made)}


def test_the_papers_tables_have_a_box_a_system(registered):
    nodes, data = shown(registered["paper_tables"])
    assert len(nodes) == 3 + len(SYSTEMS) + 2
    assert {f"paper_tables_run_{system}" for system in SYSTEMS} <= set(nodes)
    assert len(data) == 2 + 4 + len(SYSTEMS) + 4


def test_a_pipeline_opens_as_a_few_boxes(registered):
    boxes = {
        "mkd": ["ingestion", "features", "report_images", "fit", "score", "report"],
        "uninformed_students": ["ingestion", "teachers", "features", "report_images", "fit", "score", "report"],
        "soft_target": ["ingestion", "sweeps", "fit", "report"],
        "paper_tables": ["ingestion", "features", "fit_and_score", "report"],
        "mkd_ablation": ["ingestion", "features", "fit_and_score", "report"],
    }
    for name, expected in boxes.items():
        assert {node.namespace or node.name for node in registered[name].nodes} == set(expected), name
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Kedro warns of a box that begins anew after another has begun
        for pipeline in registered.values():
            Pipeline(pipeline.nodes)


def test_a_node_in_a_box_has_its_plain_name_also_when_it_is_copied(registered):
    assert not [node.name for pipeline in registered.values() for node in pipeline.nodes if "." in node.name]
    (node,) = Pipeline([BoxedNode(len, "a", "b", name="count", namespace="fit")], tags="x").nodes
    assert (node.name, node.namespace, node.tags) == ("count", "fit", {"x"})


def test_the_code_of_a_step_is_shown(registered):
    node = next(node for node in registered["mkd_ablation"].nodes if node.name.endswith("run_mkd"))
    metadata = TaskNodeMetadata(task_node=GraphNode.create_task_node(node, node.name, None, None))
    assert "def run_cases(" in metadata.code


def test_no_layer_is_of_places(loader, registered):
    resolver = CatalogConfigResolver(loader["catalog"], {})
    for name, pipeline in registered.items():
        entries = {entry: resolver.resolve_pattern(entry) for entry in pipeline.inputs() if "params:" not in entry}
        raw = {entry for entry, found in entries.items() if _layer(found) == "raw"}
        assert all(
            entry.endswith(("image_set", "images", "watched_folder")) or entry == "paper_results" for entry in raw
        ), name
    assert _layer(loader["catalog"]["stores"]) is None


def _layer(entry: dict) -> str | None:
    return (entry.get("metadata") or {}).get("kedro-viz", {}).get("layer")
