"""What is named without its pipeline is found, so that what Kedro-Viz copies runs."""

import pytest
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from kedro_viz.models.flowchart.node_metadata import TaskNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode

from kdad.project.session import CheckedSession, find_pipeline
from projects import FEW


def _pass_on(value: str) -> str:
    return value


@pytest.fixture
def registered(monkeypatch) -> None:
    """Three pipelines in place of the registered ones."""
    first = Node(_pass_on, "a", "b", name="first")
    second = Node(_pass_on, "a", "c", name="second", namespace="x.y")
    third, fourth = Node(_pass_on, "c", "d", name="third"), Node(_pass_on, "d", "e", name="fourth")
    found = {"__default__": [first], "boxes": [second, third], "more": [third, fourth]}
    pipelines = {name: Pipeline(nodes) for name, nodes in found.items()}
    monkeypatch.setattr("kdad.project.session.pipelines", pipelines)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"to_nodes": ["first"]}, "__default__"),
        ({"to_nodes": ["x.y.second"]}, "boxes"),
        ({"node_names": ("third",)}, "boxes"),
        ({"from_nodes": ["third"], "to_nodes": ["fourth"]}, "more"),
        ({"to_outputs": ["e"]}, "more"),
        ({"from_inputs": ["a"], "to_outputs": ["d"]}, "boxes"),
        ({"namespaces": ["x"]}, "boxes"),
        ({"namespaces": ["x.yy"]}, "__default__"),  # nobody has it, and Kedro says so
        ({"to_nodes": ["nowhere"]}, "__default__"),
    ],
)
def test_the_first_pipeline_that_has_everything_is_chosen(registered, options, expected):
    assert find_pipeline(options) == expected


def test_what_kedro_viz_copies_for_a_node_names_one_that_is_found():
    configure_project("kdad")
    for pipeline in ("mkd_ablation", "paper_tables"):
        node = next(node for node in pipelines[pipeline].nodes if node.name.endswith("run_mkd"))
        shown = GraphNode.create_task_node(node, node.name, None, None)
        command = TaskNodeMetadata(task_node=shown).run_command
        assert command == f"kedro run --to-nodes='{node.name}'"
        assert find_pipeline({"to_nodes": [node.name]}) == pipeline


def test_a_node_of_another_pipeline_runs_by_its_name_alone(project):
    bootstrap_project(project)
    assert settings.SESSION_CLASS is CheckedSession
    small = {"dataset": {"textures": FEW}}
    with CheckedSession.create(project_path=project, env="test", runtime_params=small) as session:
        session.run(to_nodes=["mkd_ablation_prepare_images"])
    assert (project / "data/03_primary/textures/brick/mkd_ablation/split.csv").is_file()


def test_sessions_of_one_process_have_parameters_of_their_own(project):
    bootstrap_project(project)
    brick, grass = ({"dataset": {"category": name, "textures": FEW}} for name in ("brick", "grass"))
    first, second = (
        CheckedSession.create(project_path=project, env="test", runtime_params=given) for given in (brick, grass)
    )
    assert first.load_context() is first.load_context()
    second.load_context()
    first.run(pipeline_names=["mkd_ablation"], to_outputs=["mkd_ablation.split_table"])
    assert [path.name for path in (project / "data/03_primary/textures").iterdir()] == ["brick"]
