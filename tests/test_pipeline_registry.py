"""Which pipelines there are, what they hold, and whose mistakes stop which."""

import subprocess
import sys
from pathlib import Path

import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogConfigResolver
from kedro.pipeline import Pipeline
from kedro.validation import TypeExtractor

from kdad.detectors.registry import SYSTEMS
from kdad.pipeline_registry import BuiltWhenAsked, Registered, register_pipelines
from kdad.project.command_line import CommandLineError
from kdad.project.configuration import RunConfigLoader, block_model, registered_pipelines
from kdad.project.session import FindingSession
from projects import FEW, PROJECT

NAMES = {
    *("__default__", "mkd_ablation", "students_ablation", "committee_ablation", "paper_tables", *SYSTEMS),
    *("inference", "calibration", "export"),
    *("ingestion", "features", "cloner", "scoring", "reporting"),
    *("teacher", "students", "ensemble_scoring", "ensemble_reporting"),
}
#: What is said of the images before anything is trained.
_OF_IMAGES = {"data_report", "duplicates"}
#: What a run of a system leaves for its user: nothing reads it.
_OF_A_SYSTEM = (*("detector", "roc_figure", "pro_figure", "score_histogram_figure", "loss_figure", "heatmap_sheet"),)
#: By pipeline, the outputs that nothing reads: files that users are told of.
LEFT: dict[str, set[str]] = {
    "ingestion": {"image_statistics", "teacher_patches", "mkd.feature_cost", "data_report_table"} | _OF_IMAGES,
    "mkd": {f"mkd.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "stfpm": {f"stfpm.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "committee": {f"committee.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "uninformed_students": {
        *_OF_IMAGES,
        *(f"uninformed_students.{name}" for name in _OF_A_SYSTEM),
        "uninformed_students.teacher_loss_figure",
    },
    "baselines": {f"baselines.{name}" for name in ("table", "metrics_by_method", "sheets", "detectors")},
    "inference": {"inference.contact_sheet", "inference.metrics"},
    "calibration": {f"calibration.{name}" for name in ("detector", "threshold", "scores")},
    "export": {"export.detector", "export.report"},
}


def register(env: str = "test", **runtime_params) -> BuiltWhenAsked:
    configure_project("kdad")
    loader = RunConfigLoader(
        str(PROJECT / "conf"), env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
    )
    found = register_pipelines()
    assert loader["parameters"]  # the registry knows the loader as long as it lives
    return found


@pytest.fixture(scope="module")
def registered() -> BuiltWhenAsked:
    return register()


def names_of(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def nodes_with(pipeline: Pipeline, *words: str) -> list[str]:
    return [node.name for node in pipeline.nodes if any(word in node.name for word in words)]


def test_which_pipelines_there_are(registered):
    assert set(registered) == NAMES
    assert len(registered) == len(NAMES)


def test_the_default_is_mkd(registered):
    assert registered["__default__"].nodes == registered["mkd"].nodes


def test_a_pipeline_is_built_once_and_not_before_it_is_asked_for():
    found = BuiltWhenAsked({name: Registered((), "ingestion.create_pipeline") for name in "ab"}, {})
    assert (sorted(found), len(found), found._built) == (["a", "b"], 2, {})
    assert found["b"] is found["b"]
    assert set(found._built) == {"b"}


def test_names_are_told_without_a_pipeline_built():
    configure_project("kdad")
    mistaken = {"paper_tables": {"seeds": "many"}}  # who asks for names hears nothing of it
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", runtime_params=mistaken, **settings.CONFIG_LOADER_ARGS)
    found = registered_pipelines()
    assert loader["parameters"]["paper_tables"]["seeds"] == "many"
    assert set(found) == NAMES
    assert found._built == {}


def test_a_pipeline_that_there_is_not_is_one_message_with_the_nearest_name(registered):
    with pytest.raises(CommandLineError, match=r"there is no pipeline 'mkd_ablaton'; did you mean 'mkd_ablation'\?"):
        registered["mkd_ablaton"]
    assert "mkd_ablaton" not in registered


@pytest.mark.parametrize("pipeline", sorted(NAMES))
def test_the_blocks_that_are_checked_are_those_that_nodes_take(registered, pipeline):
    taken = TypeExtractor({"": registered[pipeline]}).extract_types_from_pipelines()
    models = {
        name: model
        for name, model in taken.items()
        if hasattr(model, "model_validate") and not name.startswith("categories.")  # checked as they are planned
    }
    assert models == {name: block_model(name) for name in registered._registered[pipeline].blocks}


def test_a_mistake_is_told_before_any_network_is_imported():
    code = f"""
import sys
from kedro.framework.project import configure_project, settings
from kdad.project.command_line import CommandLineError
from kdad.project.command_line import CommandLineError
from kdad.project.configuration import RunConfigLoader, block_model, registered_pipelines
from kdad.pipeline_registry import register_pipelines
arguments = dict(base_env="base", default_run_env="local", merge_strategy={{"parameters": "soft"}})
wrong = {{"cloner": {{"training": {{"epochs": 0}}}}}}
loader = RunConfigLoader({str(PROJECT / "conf")!r}, env="test", runtime_params=wrong, **arguments)
try:
    register_pipelines()["mkd"]
except CommandLineError as error:
    print(error, sorted({{"torch", "pandas", "mlflow", "matplotlib", "sklearn", "captum"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert "cloner.training.epochs: " in found.stdout
    assert found.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("system", ["mkd", "stfpm", "committee", "uninformed_students"])
def test_a_system_is_the_sum_of_its_steps(registered, system):
    common = {
        *("validate_images", "split_images", "report_images"),
        *(f"{system}_{name}" for name in ("compute_features", "fit_detector", "map_images")),
        f"{system}_smooth_maps",
        *(f"{system}_{name}" for name in ("calibrate_threshold", "measure_detector", "write_metrics", "draw_curves")),
        *(f"{system}_{name}" for name in ("draw_score_histogram", "draw_loss_curves", "draw_heatmap_sheet")),
        f"{system}_keep_detector",
    }
    taught = {"sample_teacher_patches", "train_teachers", "draw_teacher_losses"}
    own = taught if system == "uninformed_students" else {f"{system}_prepare_frozen"}
    assert names_of(registered[system]) == common | own


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        *((name, ("teacher", "patches")) for name in ("mkd", "stfpm", "committee", "baselines", "mkd_ablation")),
        *((name, ("train", "fit", "run_case", "prepare")) for name in ("inference", "calibration", "export")),
        ("ingestion", ("train", "fit", "run_case")),
        *((name, ("train", "fit", "compute_features")) for name in ("scoring", "reporting", "ensemble_scoring")),
        ("features", ("fit", "map_images")),
        ("uninformed_students", ("statistics", "mkd")),
        ("mkd", ("statistics", "run_case", "students")),
    ],
)
def test_what_a_pipeline_does_not_do(registered, pipeline, words):
    assert nodes_with(registered[pipeline], *words) == []


@pytest.mark.parametrize(
    ("system", "steps"),
    [
        ("mkd", ["ingestion", "features", "cloner", "scoring", "reporting"]),
        ("uninformed_students", ["teacher", "students", "ensemble_scoring", "ensemble_reporting"]),
    ],
)
def test_steps_alone_make_a_system_together(registered, system, steps):
    made = sum((registered[step] for step in steps), Pipeline([]))
    assert {node.name for node in registered[system].nodes} <= {node.name for node in made.nodes}


def test_statistics_are_measured_where_a_source_is_normalised_by_them():
    by_dataset = register(source={"input_normalisation": "dataset"})
    assert nodes_with(by_dataset["mkd"], "statistics") == ["compute_image_statistics"]
    assert "image_statistics" in by_dataset["mkd"].inputs() | by_dataset["mkd"].all_outputs()
    assert nodes_with(by_dataset["stfpm"], "statistics") == []  # its source is in a block of its own
    (frozen,) = (node for node in by_dataset["mkd"].nodes if node.name.startswith("mkd_prepare_frozen"))
    assert "image_statistics" in frozen.inputs


@pytest.mark.parametrize("pipeline", LEFT)
def test_everything_that_is_made_is_read_or_is_what_users_are_told_of(registered, pipeline):
    assert registered[pipeline].outputs() == LEFT[pipeline]


@pytest.mark.parametrize("pipeline", LEFT)
def test_what_users_are_told_of_lies_in_a_file(pipeline):
    configure_project("kdad")
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
    resolver = CatalogConfigResolver(loader["catalog"], {})
    assert all(resolver.resolve_pattern(name).get("filepath") for name in LEFT[pipeline])


@pytest.mark.parametrize("pipeline", sorted(NAMES))
def test_a_pipeline_needs_nothing_but_catalog_entries(registered, pipeline):
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
    resolver = CatalogConfigResolver(loader["catalog"], {})
    data = {name for name in registered[pipeline].inputs() if not name.startswith("params:")}
    assert [name for name in sorted(data) if not resolver.resolve_pattern(name)] == []


def test_an_ablation_has_a_node_for_each_case_and_one_preparation():
    one = {"axes": "loss_terms", "seeds": "0 1", "categories": "brick grass"}
    found = register(mkd_ablation=one)["mkd_ablation"]
    assert len(nodes_with(found, "run_case")) == 5 * 2 * 2
    assert sorted(nodes_with(found, "see_")) == [f"{name}.see_mkd_ablation_mkd" for name in ("brick", "grass")]
    assert found.outputs() == {f"mkd_ablation.{name}" for name in ("summary_csv", "figures", "headline")}


@pytest.mark.parametrize("name", ["mkd_ablation", "students_ablation"])
def test_contamination_is_an_axis_that_is_asked_for(registered, name):
    assert not nodes_with(registered[name], "contamina")
    found = register(**{name: {"axes": "contamination"}})[name]
    assert len(nodes_with(found, "run_case")) == 4  # 0, 1, 5 and 10 %
    assert len(nodes_with(found, "see_")) == 4


def test_paper_tables_have_cases_of_every_system_that_sees_such_images():
    found = register("digits", paper_tables={"seeds": "0", "categories": "3"})["paper_tables"]
    assert {name.rpartition(".")[2] for name in nodes_with(found, "see_")} == {
        f"see_paper_{system}_{system}" for system in SYSTEMS
    }


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
            {"committee": {"members": "mkd stfpm"}, "source": {"name": "vgg16"}},
            "committee",
            "stfpm.source differs in name ('vgg16', and 'efficientnet_lite0' of stfpm); set it as source",
        ),
        (
            {"source": {"name": "vgg16"}},
            "committee_ablation",
            "committee_ablation.variants.members.variants.stfpm: committee.members names stfpm",
        ),
    ],
)
def test_a_mistake_stops_its_own_pipeline_with_one_message_and_no_other(given, pipeline, said):
    found = register(**given)
    assert found["mkd"].nodes
    with pytest.raises(KedroCliError) as caught:
        found[pipeline]
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_mistake_in_a_block_of_mkd_stops_mkd_and_not_the_teacher():
    found = register(cloner={"training": {"epochs": 0}})
    with pytest.raises(KedroCliError, match=r"cloner\.training\.epochs: .*\(given: 0\)"):
        found["mkd"]
    assert found["teacher"].nodes
    assert found["inference"].nodes


def test_everything_that_is_wrong_in_a_pipeline_is_said_at_once():
    found = register(cloner={"training": {"epochs": 0}}, measuring={"max_fpr": 2}, reporting={"sheet_row": 1})
    with pytest.raises(KedroCliError, match=r"(?s)cloner\.training\.epochs") as caught:
        found["mkd"]
    assert "measuring.max_fpr" in str(caught.value)
    assert "did you mean 'sheet_rows'" in str(caught.value)


def test_an_unknown_block_is_refused_with_the_nearest_name():
    with pytest.raises(KedroCliError, match="unknown parameter 'clonr'; did you mean 'cloner'"):
        register(clonr={"training": {"epochs": 2}})


def _axes(project: Path, axes: str) -> set[str]:
    """Return the axes that a session of its own finds planned."""
    chosen = {"mkd_ablation": {"axes": axes}}
    with KedroSession.create(project_path=project, env="test", runtime_params=chosen) as session:
        session.load_context()
        planned = pipelines["mkd_ablation"]
        return {node.namespace.split(".")[0] for node in planned.nodes if "variant" in node.tags}


def test_two_sessions_of_one_process_have_a_plan_each(project):
    bootstrap_project(project)  # once, as a notebook does
    assert _axes(project, "loss_terms") == {"loss_terms"}
    assert _axes(project, "layer_count fusion") == {"layer_count", "fusion"}
    assert _axes(project, "loss_terms") == {"loss_terms"}


def test_without_a_session_the_pipelines_are_those_of_base(project, monkeypatch):
    monkeypatch.chdir(project)
    bootstrap_project(project)
    monkeypatch.setattr("kdad.project.configuration.PlanningSession._loader", None)
    found = register_pipelines()
    axes = {node.namespace.split(".")[0] for node in found["mkd_ablation"].nodes if "variant" in node.tags}
    assert {"loss_terms", "filter", "fusion"} <= axes


@pytest.mark.parametrize("kind", [KedroSession, FindingSession])
def test_a_session_that_runs_after_another_has_begun_has_its_own_plan(project, kind):
    bootstrap_project(project)
    grass = {"mkd_ablation": {"axes": ["fusion"]}, "dataset": {"category": "grass", "textures": FEW}}
    brick = {"mkd_ablation": {"axes": ["loss_terms"]}, "dataset": {"textures": FEW}}
    first, second = (kind.create(project_path=project, env="test", runtime_params=given) for given in (brick, grass))
    first.load_context()
    second.load_context()
    first.run(pipeline_names=["mkd_ablation"], to_outputs=["brick.split_table"])
    assert {node.namespace.split(".")[0] for node in pipelines["mkd_ablation"].nodes if "variant" in node.tags} == {
        "loss_terms"
    }
    assert [path.name for path in (project / "data/03_primary/textures").iterdir()] == ["brick"]
