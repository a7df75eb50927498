"""Which pipelines there are, what they hold, and whose mistakes stop which."""

import subprocess
import sys

import pytest
from kedro.io import CatalogConfigResolver
from kedro.pipeline import Pipeline

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.plan import ablation_of
from kdad.pipeline_registry import register_pipelines
from kdad.project import LOADER_ARGS
from kdad.project.configuration import RunConfigLoader
from kdad.project.session import KNOWN, PLANNED, checked_blocks
from projects import PROJECT, STANDING

NAMES = {
    *("__default__", "mkd_ablation", "students_ablation", "paper_tables", *SYSTEMS),
    *(f"{system}_ablation" for system in SYSTEMS if system != "uninformed_students"),
    *("inference", "watch", "comparison", "calibration", "export"),
    *("ingestion", "features", "cloner", "scoring", "reporting"),
    *("teacher", "students", "ensemble_scoring", "ensemble_reporting"),
}
#: What is said of the images before anything is trained.
_OF_IMAGES = {"data_report", "duplicates"}
#: What a run of a system leaves for its user: nothing reads it.
_OF_A_SYSTEM = ("training_report", "score_histogram_figure", "heatmap_sheet")
#: By pipeline, the outputs that nothing reads: files that users are told of.
LEFT: dict[str, set[str]] = {
    "ingestion": {"teacher_patches", "mkd.feature_cost", "data_report_table"} | _OF_IMAGES,
    "mkd": {f"mkd.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "stfpm": {f"stfpm.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "committee": {f"committee.{name}" for name in _OF_A_SYSTEM} | _OF_IMAGES,
    "uninformed_students": {
        *_OF_IMAGES,
        *(f"uninformed_students.{name}" for name in _OF_A_SYSTEM),
        "uninformed_students.teacher_loss_figure",
    },
    "baselines": {f"baselines.{name}" for name in ("table", "metrics_by_method", "sheets", "detectors", "split_table")},
    "mkd_ablation": {f"mkd_ablation.{name}" for name in ("summary_csv", "figures", "headline", "split_table")},
    "paper_tables": {f"paper_tables.{name}" for name in ("cells", "excerpt", "split_table")},
    "inference": {"inference.contact_sheet", "inference.metrics"},
    "comparison": {"comparison.metrics"},
    "calibration": {f"calibration.{name}" for name in ("detector", "threshold", "scores")},
    "export": {"export.detector", "export.report"},
}


@pytest.fixture(scope="module")
def registered() -> dict[str, Pipeline]:
    return register_pipelines()


@pytest.fixture(scope="module")
def resolver() -> CatalogConfigResolver:
    """The entries of the catalog."""
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", **LOADER_ARGS)
    return CatalogConfigResolver(loader["catalog"], {})


def names_of(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def nodes_with(pipeline: Pipeline, *words: str) -> list[str]:
    return [node.name for node in pipeline.nodes if any(word in node.name for word in words)]


def test_which_pipelines_there_are(registered):
    assert set(registered) == NAMES
    assert set(KNOWN) == NAMES


def test_the_default_is_mkd(registered):
    assert registered["__default__"].nodes == registered["mkd"].nodes


@pytest.mark.parametrize("pipeline", sorted(NAMES - {"__default__"}))
def test_the_blocks_that_are_checked_are_those_that_nodes_take(registered, pipeline):
    taken = {name.removeprefix("params:") for name in registered[pipeline].inputs() if name.startswith("params:")}
    checked = set(checked_blocks(pipeline))
    if pipeline in PLANNED:  # blocks of systems are checked as cases are planned
        checked |= set(PLANNED[pipeline].blocks)
    assert taken - {"seed"} == checked - {"seed"}


def test_a_mistake_is_told_before_any_network_is_imported():
    code = f"""
import sys
from pathlib import Path
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from kdad.project.command_line import CommandLineError
bootstrap_project(Path({str(PROJECT)!r}))
mistakes = {{
    "mkd": {{"cloner": {{"training": {{"epochs": 0}}}}}},
    "mkd_ablation": {{"mkd_ablation": {{"axes": "los"}}}},
}}
for pipeline, wrong in mistakes.items():
    session = settings.SESSION_CLASS.create(project_path={str(PROJECT)!r}, env="test", runtime_params=wrong)
    try:
        session.run(pipeline_names=[pipeline])
    except CommandLineError as error:
        print(error, sorted({{"torch", "mlflow", "matplotlib", "sklearn", "captum"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert "cloner.training.epochs: " in found.stdout
    assert "there is no axis 'los'" in found.stdout
    assert found.stdout.count("[]") == 2


@pytest.mark.parametrize(
    "system", ["mkd", "stfpm", "reverse_distillation", "efficient_ad", "committee", "uninformed_students"]
)
def test_a_system_is_the_sum_of_its_steps(registered, system):
    common = {
        *("validate_images", "split_images", "report_images"),
        *(f"{system}_{name}" for name in ("compute_features", "fit_detector", "map_images")),
        f"{system}_smooth_maps",
        *(f"{system}_{name}" for name in ("calibrate_threshold", "measure_detector", "write_metrics", "draw_curves")),
        *(f"{system}_{name}" for name in ("draw_score_histogram", "draw_loss_curves", "draw_heatmap_sheet")),
        *(f"{system}_{name}" for name in ("keep_detector", "render_report")),
    }
    taught = {"sample_teacher_patches", "train_teachers", "draw_teacher_losses"}
    own = taught if system == "uninformed_students" else {f"{system}_prepare_frozen"}
    assert names_of(registered[system]) == common | own


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        *((name, ("teacher", "patches")) for name in ("mkd", "stfpm", "committee", "baselines", "mkd_ablation")),
        *(
            (name, ("train", "fit", "run_case", "prepare"))
            for name in ("inference", "comparison", "calibration", "export")
        ),
        ("ingestion", ("train", "fit", "run_case")),
        *((name, ("train", "fit", "compute_features")) for name in ("scoring", "reporting", "ensemble_scoring")),
        ("features", ("fit", "map_images")),
        ("uninformed_students", ("statistics", "mkd")),
        ("mkd", ("statistics", "run_", "students")),
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


@pytest.mark.parametrize("pipeline", LEFT)
def test_everything_that_is_made_is_read_or_is_what_users_are_told_of(registered, pipeline):
    assert registered[pipeline].outputs() == LEFT[pipeline]


@pytest.mark.parametrize("pipeline", LEFT)
def test_what_users_are_told_of_lies_in_a_file(resolver, pipeline):
    assert all(resolver.resolve_pattern(name).get("filepath") for name in LEFT[pipeline])


@pytest.mark.parametrize("pipeline", sorted(NAMES))
def test_a_pipeline_needs_nothing_but_catalog_entries(registered, resolver, pipeline):
    data = {name for name in registered[pipeline].inputs() if not name.startswith("params:")}
    assert [name for name in sorted(data) if not resolver.resolve_pattern(name)] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_ablation_is_seven_steps_whatever_its_questions(registered, system):
    name = ablation_of(system)
    steps = ("plan_cases", "prepare_images", "extract_features", f"run_{system}", "summarise_variants", "draw")
    assert names_of(registered[name]) == {f"{name}_{step}" for step in (*steps, "report_missing")}


def test_the_papers_tables_have_a_node_a_system_and_baselines_those_that_stand_among_them(registered):
    assert len(nodes_with(registered["paper_tables"], "_run_")) == len(SYSTEMS)
    of_baselines = {f"baselines_run_{system}" for system in ("baselines", *STANDING)}
    assert set(nodes_with(registered["baselines"], "_run_")) == of_baselines
