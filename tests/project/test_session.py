import json
from copy import deepcopy
from functools import cache
from types import SimpleNamespace

import pytest
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from kedro_viz.models.flowchart.node_metadata import TaskNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode

from kdad.project import LOADER_ARGS
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.configuration import RunConfigLoader
from kdad.project.session import CheckedSession, check_pipelines, find_pipeline
from projects import FEW, PROJECT


def parameters(env: str = "test", **runtime_params) -> dict:
    return deepcopy(_read(env, json.dumps(runtime_params)))


@cache
def _read(env: str, given: str) -> dict:
    return RunConfigLoader(str(PROJECT / "conf"), env=env, runtime_params=json.loads(given), **LOADER_ARGS)[
        "parameters"
    ]


def test_the_default_is_mkd_and_an_inference_may_be_a_watch():
    assert check_pipelines(["__default__", "inference"], parameters()) == ["mkd", "inference"]
    assert check_pipelines(["inference"], parameters(inference={"watch": True})) == ["watch"]


def test_two_systems_in_one_run_are_one_message():
    with pytest.raises(CommandLineError, match="mkd and committee train a detector each") as caught:
        check_pipelines(["__default__", "committee"], parameters())
    assert caught.value.exit_code == ExitCode.WRONG_COMMAND
    assert check_pipelines(["ingestion", "committee"], parameters()) == ["ingestion", "committee"]


def test_a_pipeline_that_there_is_not_is_one_message_with_the_nearest_name():
    with pytest.raises(CommandLineError, match=r"no pipeline 'mkd_ablaton'; did you mean 'mkd_ablation'") as caught:
        check_pipelines(["mkd_ablaton"], parameters())
    assert caught.value.exit_code == ExitCode.WRONG_COMMAND


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("given", "pipeline", "said"),
    [
        ({"paper_tables": {"seeds": "many"}}, "paper_tables", "paper_tables.seeds.0: "),
        ({"paper_tables": {"methods": {"mkd": {"system": "mdk"}}}}, "paper_tables", "paper_tables.methods.mkd.system"),
        ({"mkd_ablation": {"axes": "los_terms"}}, "mkd_ablation", "did you mean 'loss_terms'"),
        ({"mkd_ablation": {"resamples": 3}}, "mkd_ablation", "mkd_ablation.resamples: "),
        ({"students_ablation": {"base": {"student": {}}}}, "students_ablation", "did you mean 'students'"),
        ({"baselines": {"pixel_side": 1}}, "baselines", "baselines.pixel_side: "),
        ({"baselines": {"methods": None}}, "baselines", "baselines.methods: Input should be a valid dictionary"),
        ({"calibration": {"rule": "f1"}}, "calibration", "calibration: rule 'f1' needs labelled images"),
        ({"inference": {"image": "x"}}, "inference", "did you mean 'images'"),
        ({"stfpm": {"training": {"epochs": 0}}}, "stfpm", "stfpm.training.epochs: "),
        ({"committee": {"members": "mkd mdk"}}, "committee", "parameters: committee.members names 'mdk'; did you mean"),
        (
            {"committee": {"members": "mkd stfpm"}, "stfpm": {"source": {"name": "vgg16"}}},
            "committee",
            "stfpm.source differs in name ('efficientnet_lite0', and 'vgg16' of stfpm); set it as source",
        ),
        (
            {"stfpm": {"source": {"name": "vgg16"}}},
            "committee_ablation",
            "committee_ablation.variants.members.variants.stfpm: committee.members names stfpm",
        ),
        ({"workers": {"count": 2, "address": "tcp://head:1"}}, "mkd_ablation", "workers: count and threads are of wo"),
        ({"workers": {"counts": 2}}, "paper_tables", "did you mean 'count'"),
        ({}, "stfpm_ablation", "stfpm_ablation: is missing"),
    ],
)
def test_a_mistake_stops_its_own_pipeline_with_one_message_and_no_other(given, pipeline, said):
    found = parameters(**given)
    assert check_pipelines(["mkd"], found) == ["mkd"]
    with pytest.raises(CommandLineError) as caught:
        check_pipelines([pipeline], found)
    assert said in str(caught.value)


def test_groups_that_are_decided_on_are_told():
    with pytest.raises(CommandLineError, match=r"decides on groups, and dataset\.groups is null; say which"):
        check_pipelines(["mkd"], parameters(measuring={"group_score": "mean"}))
    by_folder = {"name": "folder", "root": "x", "category": None, "groups": "folder"}
    assert check_pipelines(["stfpm"], parameters(measuring={"group_score": "mean"}, dataset=by_folder)) == ["stfpm"]


def test_a_mistake_in_a_block_of_mkd_stops_mkd_and_not_the_teacher():
    found = parameters(cloner={"training": {"epochs": 0}})
    with pytest.raises(CommandLineError, match=r"cloner\.training\.epochs: .*\(given: 0\)"):
        check_pipelines(["mkd"], found)
    assert check_pipelines(["teacher", "inference"], found) == ["teacher", "inference"]


def test_everything_that_is_wrong_in_a_pipeline_is_said_at_once():
    wrong = {"cloner": {"training": {"epochs": 0}}, "measuring": {"max_fpr": 2}, "reporting": {"sheet_row": 1}}
    with pytest.raises(CommandLineError, match=r"(?s)cloner\.training\.epochs") as caught:
        check_pipelines(["mkd"], parameters(**wrong))
    assert "measuring.max_fpr" in str(caught.value)
    assert "did you mean 'sheet_rows'" in str(caught.value)


def test_a_set_of_labels_has_cases_of_every_system_and_an_axis_of_contamination_is_asked_for():
    from kdad.detectors.registry import SYSTEMS
    from kdad.experiments.plan import PLANNED

    digits = parameters("digits", paper_tables={"seeds": "0", "categories": "3"})
    plans = PLANNED["paper_tables"].plan(digits)
    assert {case.system for plan in plans for case in plan.cases} == SYSTEMS.keys() - {"efficient_ad"}
    for name in ("mkd_ablation", "students_ablation"):
        (plan,) = PLANNED[name].plan(parameters())
        assert "contamination" not in {case.axis for case in plan.cases}
        (plan,) = PLANNED[name].plan(parameters(**{name: {"axes": "contamination"}}))
        assert len({case.prepared for case in plan.cases}) == len(plan.cases) == 4  # 0, 1, 5 and 10 %


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


@pytest.mark.parametrize(
    ("env", "given", "expected"),
    [
        ("folder", {}, ["committee"]),
        ("folder", {"pipeline_names": ["stfpm"]}, ["stfpm"]),
        ("test", {}, ["mkd"]),
        (None, {}, ["mkd"]),
    ],
)
def test_a_run_that_names_no_pipeline_runs_that_of_its_environment(monkeypatch, env, given, expected):
    context = SimpleNamespace(env=env, config_loader={"parameters": parameters(), "catalog": {}})
    monkeypatch.setattr(CheckedSession, "load_context", lambda session: context)
    monkeypatch.setattr(KedroSession, "run", lambda session, pipeline_names: pipeline_names)
    assert CheckedSession.__new__(CheckedSession).run(**given) == expected
