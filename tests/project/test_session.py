"""What is named without its pipeline is found, so that what Kedro-Viz copies runs."""

import pytest
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from kedro_viz.models.flowchart.node_metadata import TaskNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode

from kdad.project.command_line import CommandLineError
from kdad.project.configuration import RunConfigLoader
from kdad.project.session import FindingSession, find_pipeline
from projects import FEW, PROJECT


def _pass_on(value: str) -> str:
    return value


@pytest.fixture
def registered(monkeypatch) -> None:
    """Three pipelines in place of the registered ones; the parameters of the second are wrong."""
    first = Node(_pass_on, "a", "b", name="first")
    second = Node(_pass_on, "a", "c", name="second", namespace="x.y")
    third, fourth = Node(_pass_on, "c", "d", name="third"), Node(_pass_on, "d", "e", name="fourth")
    found = {"__default__": [first], "broken": [], "boxes": [second, third], "more": [third, fourth]}

    class Registered(dict):
        def __getitem__(self, name: str) -> Pipeline:
            if name == "broken":
                raise CommandLineError("parameters cannot be used")
            return Pipeline(super().__getitem__(name))

    monkeypatch.setattr("kdad.project.session.registered_pipelines", lambda: Registered(found))


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


def test_what_kedro_viz_copies_for_a_case_names_a_node_that_is_found():
    configure_project("kdad")
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
    assert loader["parameters"]  # the registry knows the loader as long as it lives
    for pipeline in ("mkd_ablation", "paper_tables"):
        node = next(node for node in pipelines[pipeline].nodes if node.name.endswith("run_case"))
        shown = GraphNode.create_task_node(node, node.name, None, None)
        command = TaskNodeMetadata(task_node=shown).run_command
        assert command == f"kedro run --to-nodes='{node.name}'"
        assert find_pipeline({"to_nodes": [node.name]}) == pipeline


def test_a_node_of_another_pipeline_runs_by_its_name_alone(project):
    bootstrap_project(project)
    assert settings.SESSION_CLASS is FindingSession
    small = {"dataset": {"textures": FEW}}
    with FindingSession.create(project_path=project, env="test", runtime_params=small) as session:
        session.run(to_nodes=["brick.split_images"])
    assert (project / "data/03_primary/textures/brick/split.csv").is_file()
