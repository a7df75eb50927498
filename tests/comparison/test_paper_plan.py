"""Which cells are planned."""

import pytest
import yaml

from kdad.comparison.paper_plan import plan_tables
from kdad.errors import InputError
from projects import PROJECT

DIGITS = {"name": "digits", "category": None, "normal_class": 8}


def plans(image_size: int = 48, dataset: dict | None = None, tables: str = "all", **methods) -> dict:
    """Plan `methods` over what `conf/base` says, by system's plan."""
    base = {}
    for path in sorted((PROJECT / "conf/base/parameters").glob("*.yml")):
        base |= yaml.safe_load(path.read_text())
    changed = {"dataset": base["dataset"] | (DIGITS if dataset is None else dataset) | {"image_size": image_size}}
    block = base["paper_tables"] | {"tables": tables} | ({"methods": methods} if methods else {})
    return {plan.name: plan for plan in plan_tables(base | changed | {"paper_tables": block})}


def test_every_system_has_a_case_for_each_class_and_seed():
    found = plans()
    assert set(found) == {"mkd_ablation", "students_ablation", "baselines", "soft_target"}
    assert len(found["mkd_ablation"].cases) == len(found["soft_target"].cases) == 10 * 3
    assert all(plan.shares_classes for plan in found.values())


def test_students_whose_receptive_field_does_not_fit_are_left_out():
    assert "students_ablation" not in plans(image_size=32)
    assert "students_ablation" in plans(image_size=33)


def test_students_may_have_an_image_size_of_their_own_where_categories_are_apart():
    students = {"system": "uninformed_students", "settings": {"students": {"receptive_fields": [33]}}}
    small = students | {"image_size": 36}
    found = plans(image_size=40, mkd={"system": "mkd"}, as_the_run=students, small=small)
    assert {dataset["image_size"] for dataset in found["mkd_ablation"].datasets.values()} == {40}
    cases = found["students_ablation"].cases
    sizes = {case.variant: found["students_ablation"].datasets[case.category]["image_size"] for case in cases}
    assert sizes == {"as_the_run": 40, "small": 36}
    assert {case.category for case in cases if case.variant == "small"} == {f"class_{n}_36x36" for n in range(10)}
    assert len(cases) == 2 * 10 * 3
    assert "students_ablation" in plans(image_size=32, mkd={"system": "mkd"}, small=small)


def test_methods_of_tables_that_are_not_chosen_are_not_planned():
    filtered = {"system": "mkd", "tables": "mkd_gaussian_ablation"}
    methods = {"mkd": {"system": "mkd"}, "filtered": filtered}
    assert {case.variant for case in plans(**methods)["mkd_ablation"].cases} == {"mkd", "filtered"}
    assert {case.variant for case in plans(tables="us_pro", **methods)["mkd_ablation"].cases} == {"mkd"}


def test_soft_targets_need_classes():
    assert "soft_target" not in plans(dataset={})


def test_a_baseline_that_is_left_out_is_left_out_here_and_does_not_change_others():
    method = {"system": "baselines"}
    left = {"system": "baselines", "settings": {"baselines": {"methods": {"vae": None}}}}
    found = plans(vae=left, memory_bank=method)["baselines"]
    assert {case.variant for case in found.cases} == {"memory_bank"}
    (blocks,) = {str(case.blocks) for case in found.cases}
    assert "position_gaussian" not in blocks


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"system": "baselines", "settings": {"source": {"name": "vgg16"}}}, "may change 'baselines' alone"),
        ({"system": "baselines", "settings": {"baselines": {"pixel_side": 2}}}, r"pixel_side: .*greater than"),
    ],
)
def test_a_wrong_setting_is_named(method, message):
    with pytest.raises(InputError, match=message):
        plans(vae=method)
