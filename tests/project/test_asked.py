"""A mistake is told to who asks for the pipeline that it concerns, and to no others."""

import pytest
from kedro.framework.project import configure_project, settings

from kdad.project.asked import check_pipelines
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.configuration import RunConfigLoader
from projects import PROJECT


def parameters(env: str = "test", **runtime_params) -> dict:
    configure_project("kdad")
    return RunConfigLoader(
        str(PROJECT / "conf"), env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
    )["parameters"]


def test_the_default_is_mkd_and_an_inference_may_be_a_watch():
    assert check_pipelines(["__default__", "inference"], parameters()) == ["mkd", "inference"]
    assert check_pipelines(["inference"], parameters(inference={"watch": True})) == ["watch"]


def test_a_pipeline_that_there_is_not_is_one_message_with_the_nearest_name():
    with pytest.raises(CommandLineError, match=r"no pipeline 'mkd_ablaton'; did you mean 'mkd_ablation'") as caught:
        check_pipelines(["mkd_ablaton"], parameters())
    assert caught.value.exit_code == ExitCode.WRONG_COMMAND


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
    from kdad.experiments.paper_plan import PLANNED

    digits = parameters("digits", paper_tables={"seeds": "0", "categories": "3"})
    plans = PLANNED["paper_tables"].plan(digits)
    assert {case.system for plan in plans for case in plan.cases} == set(SYSTEMS)
    for name in ("mkd_ablation", "students_ablation"):
        (plan,) = PLANNED[name].plan(parameters())
        assert "contamination" not in {case.axis for case in plan.cases}
        (plan,) = PLANNED[name].plan(parameters(**{name: {"axes": "contamination"}}))
        assert len({case.prepared for case in plan.cases}) == len(plan.cases) == 4  # 0, 1, 5 and 10 %
