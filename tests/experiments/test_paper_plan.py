"""Which cells are planned."""

import pytest
import yaml

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.paper_plan import plan_baselines, plan_tables
from kdad.experiments.plan import Plan
from projects import PROJECT

DIGITS = {"name": "digits", "category": None, "normal_class": 8}


def plan(
    image_size: int = 48, dataset: dict | None = None, tables: str = "all", chosen: str | list[str] = "all", **methods
) -> list[Plan]:
    """Plan `methods` over what `conf/base` says."""
    base = {}
    for path in sorted((PROJECT / "conf/base/parameters").glob("*.yml")):
        base |= yaml.safe_load(path.read_text())
    changed = {"dataset": base["dataset"] | (DIGITS if dataset is None else dataset) | {"image_size": image_size}}
    block = base["paper_tables"] | {"tables": tables, "chosen": chosen} | ({"methods": methods} if methods else {})
    return plan_tables(base | changed | {"paper_tables": block})


def plans(*arguments, **named) -> dict[str, Plan]:
    """Plan, by system's plan, of methods of one image size."""
    found = plan(*arguments, **named)
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def test_every_system_has_a_case_for_each_class_and_seed():
    found = plans()
    # EfficientAD, which would train a teacher for it, stands in no table that is not asked for it.
    assert set(found) == {f"paper_{system}" for system in SYSTEMS if system != "efficient_ad"}
    assert len(found["paper_mkd"].cases) == len(found["paper_soft_target"].cases) == 10 * 3
    assert all(one.shares_classes for one in found.values())


def test_students_whose_receptive_field_does_not_fit_are_left_out():
    assert "paper_uninformed_students" not in plans(image_size=16)
    assert "paper_uninformed_students" in plans(image_size=17)


def test_students_may_have_an_image_size_of_their_own_where_categories_are_apart():
    students = {"system": "uninformed_students", "settings": {"students": {"receptive_fields": [33]}}}
    small = students | {"image_size": 36}
    found = plan(image_size=40, mkd={"system": "mkd"}, as_the_run=students, small=small)
    assert {one.image_size for one in next(one for one in found if one.name == "paper_mkd").datasets.values()} == {40}
    cases = [(case, one.datasets[case.category]) for one in found for case in one.cases if "students" in one.name]
    assert {case.variant: dataset.image_size for case, dataset in cases} == {"as_the_run": 40, "small": 36}
    assert {case.category for case, _ in cases if case.variant == "small"} == {f"class_{n}_36x36" for n in range(10)}
    assert len(cases) == 2 * 10 * 3
    assert "paper_uninformed_students" in plans(image_size=16, mkd={"system": "mkd"}, small=small)


def test_methods_of_tables_that_are_not_chosen_are_not_planned():
    filtered = {"system": "mkd", "tables": "mkd_gaussian_ablation"}
    methods = {"mkd": {"system": "mkd"}, "filtered": filtered}
    assert {case.variant for case in plans(**methods)["paper_mkd"].cases} == {"mkd", "filtered"}
    assert {case.variant for case in plans(tables="us_pro", **methods)["paper_mkd"].cases} == {"mkd"}


def test_a_system_among_the_baselines_is_planned_without_being_named_and_once():
    others = [system for system, known in SYSTEMS.items() if known.Settings.stands_among_baselines]
    for system in others:
        (name,) = {case.variant for case in plans(mkd={"system": "mkd"})[f"paper_{system}"].cases}
        assert name == system
        assert f"paper_{system}" not in plans(**{system: None}, mkd={"system": "mkd"})
        named = plans(mine={"system": system}, mkd={"system": "mkd"})[f"paper_{system}"]
        assert {case.variant for case in named.cases} == {"mine"}


def test_methods_that_are_named_are_all_that_runs():
    """By name those run too that do not by default, and those that stand there without a line."""
    chosen = ["committee", "memory_bank", "stfpm", "efficient_ad"]
    found = plan(dataset={}, chosen=chosen)
    assert {case.variant for one in found for case in one.cases} == set(chosen)
    (committee,) = {
        tuple(case.settings.committee.members) for one in found for case in one.cases if case.variant == "committee"
    }
    assert committee == ("mkd", "reverse_distillation")
    with pytest.raises(ValueError, match="there is no method 'comitee'; did you mean 'committee'"):
        plan(chosen=["comitee"])
    with pytest.raises(ValueError, match="there is no method 'mkd'"):
        plan(chosen=["mkd"], mkd=None, stfpm={"system": "stfpm"})


def test_soft_targets_need_classes():
    assert "paper_soft_target" not in plans(dataset={})


def test_a_baseline_that_is_left_out_is_left_out_here_and_does_not_change_others():
    method = {"system": "baselines"}
    left = {"system": "baselines", "settings": {"baselines": {"methods": {"vae": None}}}}
    found = plans(vae=left, memory_bank=method)["paper_baselines"]
    assert {case.variant for case in found.cases} == {"memory_bank"}
    assert all(list(case.settings.baselines.methods) == ["memory_bank"] for case in found.cases)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"system": "baselines", "settings": {"cloner": {}}}, r"methods\.vae changes 'cloner'; a variant may change"),
        ({"system": "mkd", "settings": {"clone": {}}}, "changes 'clone'; .*did you mean 'cloner'"),
        ({"system": "mkd", "settings": {"cloner": {"los": {}}}}, r"vae\.cloner: .*did you mean 'loss'"),
        ({"system": "baselines", "settings": {"baselines": {"pixel_side": 2}}}, r"pixel_side: .*greater than"),
    ],
)
def test_a_wrong_setting_is_named(method, message):
    with pytest.raises(InputError, match=message):
        plans(vae=method)


def test_a_baseline_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"baselines\.methods has no 'nearest_pixel'; did you mean 'nearest_pixels'"):
        plans(nearest_pixel={"system": "baselines"})


def test_the_baselines_plan_has_a_case_for_each_method_and_for_every_system_among_them():
    base = {}
    for path in sorted((PROJECT / "conf/base/parameters").glob("*.yml")):
        base |= yaml.safe_load(path.read_text())
    base["baselines"]["methods"]["vae"] = None
    found = plan_baselines(base | {"seed": 5})
    methods = [name for name, method in base["baselines"]["methods"].items() if method is not None]
    others = [system for system, known in SYSTEMS.items() if known.Settings.stands_among_baselines]
    assert [case.variant for case in found.cases] == methods + others
    assert {(case.category, case.seed) for case in found.cases} == {("brick", 5)}
