import pytest
import yaml
from omegaconf import OmegaConf

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.plan import Plan, plan_ablation, plan_baselines, plan_tables, system_of
from kdad.project.command_line import CommandLineError
from kdad.project.session import check_pipelines
from parameter_blocks import changed, least_parameters
from projects import PROJECT


@pytest.fixture
def parameters() -> dict:
    ablation = {
        "base": {"cloner": {"training": {"epochs": 5}}},
        "variants": {
            "loss_terms": {
                "question": "which?",
                "compare_with": "both",
                "variants": {"both": {}, "value": {"cloner": {"loss": {"direction_weight": 0}}}},
            },
            "source_weights": {
                "question": "pretrained?",
                "compare_with": "random",
                "variants": {"pretrained": {}, "random": {"source": {"weights": "random"}}},
            },
        },
    }
    return least_parameters() | {"mkd_ablation": ablation}


def plan_mkd(parameters: dict) -> Plan:
    return plan_ablation(parameters, "mkd_ablation")


def axes_of(parameters: dict) -> list[str]:
    return list(dict.fromkeys(case.axis for case in plan_mkd(parameters).cases))


def ask_for(parameters: dict, name: str = "mkd_ablation") -> None:
    """Check the parameters as a session does that is asked for the pipeline."""
    check_pipelines([name], parameters | {"workers": {}})


def test_a_variant_lies_over_the_base_which_lies_over_the_run(parameters):
    case = next(case for case in plan_mkd(parameters).cases if case.variant == "value")
    assert case.settings.cloner.training.epochs == 5
    assert case.settings.cloner.loss.direction_weight == 0
    assert case.settings.cloner.loss.value_weight == 0.5
    assert case.overrides == {"cloner.loss.direction_weight": 0}


def test_the_base_is_what_variants_of_one_source_share(parameters):
    plan = plan_mkd(parameters)
    assert plan.bases["mkd"].cloner.training.epochs == 5
    others = [case.variant for case in plan.cases if case.settings.source != plan.bases["mkd"].source]
    assert others == ["random"]


@pytest.fixture
def contaminated(parameters) -> dict:
    """Parameters with an axis of contamination, which runs when it is named."""
    axis = {
        "question": "how far?",
        "compare_with": "clean",
        "by_default": False,
        "variants": {
            "clean": {},
            "tenth": {"dataset": {"contamination": 0.1}},
            "tenth_short": {"dataset": {"contamination": 0.1}, "cloner": {"training": {"epochs": 3}}},
        },
    }
    return changed(parameters, "mkd_ablation.variants.anomalous", axis)


def test_an_axis_that_is_not_by_default_runs_when_it_is_named(contaminated):
    assert axes_of(contaminated) == ["loss_terms", "source_weights"]
    assert axes_of(changed(contaminated, "mkd_ablation.axes", "anomalous")) == ["anomalous"]
    assert list(plan_mkd(contaminated).datasets) == ["brick"]


def test_a_variant_may_contaminate_the_training_images_of_its_category(contaminated):
    plan = plan_mkd(changed(contaminated, "mkd_ablation.axes", "anomalous"))
    assert {case.variant: (case.category, case.prepared) for case in plan.cases} == {
        "clean": ("brick", "brick"),
        "tenth": ("brick", "brick_contaminated_10"),
        "tenth_short": ("brick", "brick_contaminated_10"),
    }
    assert {name: dataset.contamination for name, dataset in plan.datasets.items()} == {
        "brick": 0,
        "brick_contaminated_10": 0.1,
    }
    both = next(case for case in plan.cases if case.variant == "tenth_short")
    assert both.settings.cloner.training.epochs == 3
    assert both.varied == {"cloner.training.epochs": 3, "dataset.contamination": 0.1}


def test_the_axis_of_poses_has_images_of_its_own(parameters):
    folder = {"name": "folder", "root": "parts", "category": None}
    of_files = changed(parameters | {"dataset": parameters["dataset"] | folder}, "mkd_ablation.axes", ["alignment"])
    assert {case.variant: case.prepared for case in plan_mkd(of_files).cases} == {
        "as_they_are": "parts",
        "rotation": "parts_aligned",
    }


def test_every_ablation_has_the_axes_of_images(student_parameters):
    axes = student_parameters["students_ablation"]["variants"]
    for given in (axes, {}):
        block = {"variants": given, "axes": ["learning_curve"]}
        cases = plan_ablation(student_parameters | {"students_ablation": block}, "students_ablation").cases
        assert [case.variant for case in cases] == [*(f"images_{2**power}" for power in range(6)), "all_images"]
        assert [case.prepared for case in cases][::3] == ["brick_train_1", "brick_train_8", "brick"]
    assert [case.axis for case in plan_ablation(student_parameters, "students_ablation").cases][-1] == "teacher_terms"
    fewer = {"learning_curve": {"variants": {"images_32": None, "images_3": {"dataset": {"max_train_images": 3}}}}}
    block = {"variants": axes | fewer, "axes": ["learning_curve"]}
    cases = plan_ablation(student_parameters | {"students_ablation": block}, "students_ablation").cases
    assert [case.variant for case in cases][-3:] == ["images_16", "all_images", "images_3"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"category": "grass"}, r"changes 'dataset\.category'; of the images it may change contamination, "),
        ({"contamination": 0.7}, "variant 'tenth': .*contamination"),
    ],
)
def test_a_variant_changes_nothing_else_of_the_images(contaminated, block, message):
    path = "mkd_ablation.variants.anomalous.variants.tenth.dataset"
    with pytest.raises(CommandLineError, match=message):
        ask_for(changed(changed(contaminated, "mkd_ablation.axes", "anomalous"), path, block))


def test_a_variant_may_be_one_detector_of_all_categories_measured_on_each(parameters):
    given = changed(parameters, "mkd_ablation.axes", "unified")
    with pytest.raises(
        InputError, match=r"'unified' is one detector of several .* mkd_ablation\.categories two or more"
    ):
        plan_mkd(given)
    plan = plan_mkd(changed(given, "mkd_ablation.categories", ["brick", "grass"]))
    assert [(case.variant, case.category, case.prepared, case.member) for case in plan.cases] == [
        ("one_each", "brick", "brick", ""),
        ("one_each", "grass", "grass", ""),
        ("unified", "brick", "brick_and_grass", "brick"),
        ("unified", "grass", "brick_and_grass", "grass"),
    ]
    assert plan.datasets["brick_and_grass"].category == ["brick", "grass"]


def test_an_ablation_is_of_its_system():
    assert [system_of(name) for name in ("mkd_ablation", "students_ablation")] == ["mkd", "uninformed_students"]


def test_axes_categories_and_seeds_multiply(parameters):
    block = parameters["mkd_ablation"] | {"seeds": [0, 3], "categories": ["brick", "grass"], "axes": "loss_terms"}
    plan = plan_mkd(parameters | {"mkd_ablation": block})
    assert len(plan.cases) == 2 * 2 * 2
    assert list(plan.datasets) == ["brick", "grass"]
    assert plan.datasets["grass"].category == "grass"
    assert plan.cases[0].name == "loss_terms.both.brick_seed_0"
    assert len({case.name for case in plan.cases}) == len(plan.cases)


def test_classes_are_the_categories_of_class_sets(parameters):
    digits = {"name": "digits", "normal_class": 1, "image_size": 32}
    block = parameters["mkd_ablation"] | {"categories": [3, 8]}
    plan = plan_mkd(parameters | {"dataset": digits, "mkd_ablation": block})
    assert {name: dataset.normal_class for name, dataset in plan.datasets.items()} == {"class_3": 3, "class_8": 8}


@pytest.mark.parametrize(("given", "seeds"), [("0 3", [0, 3]), (2, [2]), ([4], [4])])
def test_seeds_and_categories_can_come_from_the_command_line(parameters, given, seeds):
    block = parameters["mkd_ablation"] | {"seeds": given, "categories": "grass gravel"}
    plan = plan_mkd(parameters | {"mkd_ablation": block})
    assert sorted({case.seed for case in plan.cases}) == seeds
    assert list(plan.datasets) == ["grass", "gravel"]


def test_classes_can_come_from_the_command_line(parameters):
    digits = {"name": "digits", "normal_class": 1, "image_size": 32}
    block = parameters["mkd_ablation"] | {"categories": "3 8"}
    assert list(plan_mkd(parameters | {"dataset": digits, "mkd_ablation": block}).datasets) == [
        "class_3",
        "class_8",
    ]


def test_a_variant_set_to_null_is_left_out(parameters):
    plan = plan_mkd(changed(parameters, "mkd_ablation.variants.loss_terms.variants.value", None))
    assert "value" not in {case.variant for case in plan.cases}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("mkd_ablation.axes", "loss_term", "there is no axis 'loss_term'; did you mean 'loss_terms'"),
        ("mkd_ablation.axes", " ", "axes is empty"),
        ("mkd_ablation.variants", {}, "none is there by default; give names"),
        ("mkd_ablation.axes", "loss_terms loss_terms", "axes names a value twice"),
        ("mkd_ablation.variants.loss_terms.variants", {"both": {}, "value_0.1": {}}, "'value_0.1' cannot name"),
        ("mkd_ablation.seeds", [1, 2, 1], "seeds names a value twice"),
        ("mkd_ablation.seeds", [-1], "seeds must not be negative"),
        ("mkd_ablation.categories", [], "categories is empty"),
        ("mkd_ablation.variants.loss_terms.variants", {}, "the axis has no variant"),
        ("mkd_ablation.variants.loss_terms.compare_with", "bothe", "names 'bothe'; did you mean 'both'"),
        ("mkd_ablation.variants.loss_terms.variants.value", {"reporting": {}}, "changes 'reporting'"),
        ("mkd_ablation.base", {"clone": {}}, "mkd_ablation.base changes 'clone'; .*did you mean 'cloner'"),
        ("mkd_ablation.seed", [1], "mkd_ablation: unknown parameter 'seed'; did you mean 'seeds'"),
    ],
)
def test_a_wrong_block_is_one_message(parameters, path, value, message):
    with pytest.raises(CommandLineError, match=message):
        ask_for(changed(parameters, path, value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"cloner": {"los": {}}}, r"loss_terms\.variants\.value\.cloner.*'los'; did you mean 'loss'"),
        ({"cloner": {"training": {"epochs": 0}}}, r"value\.cloner\.training\.epochs"),
        ({"scoring": {"localisation": ["gradients"]}}, "smoothing has no entry for gradients"),
    ],
)
def test_a_wrong_variant_is_named(parameters, overrides, message):
    with pytest.raises(InputError, match=message):
        plan_mkd(changed(parameters, "mkd_ablation.variants.loss_terms.variants.value", overrides))


def test_an_unknown_category_is_named(parameters):
    block = parameters["mkd_ablation"] | {"categories": ["brik"]}
    with pytest.raises(InputError, match=r"mkd_ablation\.categories.*did you mean 'brick'"):
        plan_mkd(parameters | {"mkd_ablation": block})


@pytest.fixture
def student_parameters() -> dict:
    ablation = {
        "base": {"students": {"receptive_fields": [33]}},
        "variants": {
            "student_count": {
                "question": "how many?",
                "compare_with": "students_3",
                "variants": {"students_1": {"students": {"count": 1}}, "students_3": {}},
            },
            "teacher_terms": {
                "question": "which?",
                "compare_with": "knowledge",
                "variants": {"knowledge": {"teacher": {"compactness_weight": 0}}},
            },
        },
    }
    return least_parameters() | {"students_ablation": ablation}


def test_a_student_plan_lays_variants_over_teacher_students_and_scoring(student_parameters):
    plan = plan_ablation(student_parameters, "students_ablation")
    found = {case.variant: case.settings for case in plan.cases}
    assert list(found) == ["students_1", "students_3", "knowledge"]
    assert [found[name].students.count for name in found] == [1, 3, 3]
    assert [found[name].teacher.compactness_weight for name in found] == [1, 1, 0]
    assert all(settings.students.receptive_fields == [33] for settings in found.values())
    assert set(type(found["knowledge"]).model_fields) == {"teacher", "students", "student_scoring"}


def test_a_student_plan_does_not_know_the_blocks_of_mkd(student_parameters):
    path = "students_ablation.variants.student_count.variants.students_1"
    with pytest.raises(CommandLineError, match="changes 'cloner'"):
        ask_for(changed(student_parameters, path, {"cloner": {}}), "students_ablation")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"students": {"count": 0}}, r"student_count\.variants\.students_1\.students\.count"),
        ({"teacher": {"knowledge_weight": 0, "compactness_weight": 0}}, "all 0: nothing would be learnt"),
    ],
)
def test_a_wrong_student_variant_is_named(student_parameters, overrides, message):
    path = "students_ablation.variants.student_count.variants.students_1"
    with pytest.raises(InputError, match=message):
        plan_ablation(changed(student_parameters, path, overrides), "students_ablation")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"name": "digits", "normal_class": 1, "image_size": 32}, [f"class_{number}" for number in range(10)]),
        ({"name": "textures", "category": "grass", "image_size": 64}, ["brick", "grass", "gravel"]),
    ],
)
def test_all_means_every_class_or_category(parameters, dataset, expected):
    block = parameters["mkd_ablation"] | {"categories": "all"}
    plan = plan_mkd(parameters | {"dataset": dataset, "mkd_ablation": block})
    assert list(plan.datasets) == expected
    assert plan.shares_classes == (dataset["name"] == "digits")


def test_all_of_a_folder_are_those_with_parts_or_kinds(parameters, tmp_path):
    for name in ("bottle/train", "cable/good", "notes"):
        (tmp_path / name).mkdir(parents=True)
    dataset = {"name": "folder", "root": str(tmp_path), "category": "bottle", "image_size": 64}
    block = parameters["mkd_ablation"] | {"categories": "all"}
    assert list(plan_mkd(parameters | {"dataset": dataset, "mkd_ablation": block}).datasets) == ["bottle", "cable"]


def test_categories_of_other_scripts_stay_apart(parameters, tmp_path):
    for name in ("零件", "划痕", "003"):
        (tmp_path / name / "good").mkdir(parents=True)
    dataset = {"name": "folder", "root": str(tmp_path), "category": "003", "image_size": 64}
    block = parameters["mkd_ablation"] | {"categories": "all"}
    found = plan_mkd(parameters | {"dataset": dataset, "mkd_ablation": block}).datasets
    assert list(found) == [one.category_name for one in found.values()]
    assert sorted(found) == ["003", "划痕", "零件"]


def test_all_of_a_list_and_of_cells(parameters, tmp_path):
    (tmp_path / "list.csv").write_text("path,label,category\na.png,0,nut\nb.png,0,bolt\n")
    block = parameters["mkd_ablation"] | {"categories": "all"}
    for dataset, expected in (
        ({"name": "csv", "root": str(tmp_path / "list.csv")}, ["bolt", "nut"]),
        ({"name": "elpv"}, ["mono", "poly"]),
    ):
        found = plan_mkd(parameters | {"dataset": dataset | {"image_size": 64}, "mkd_ablation": block})
        assert list(found.datasets) == expected


def test_classes_whose_inputs_are_normalised_by_their_own_statistics_share_nothing(parameters):
    digits = {"name": "digits", "normal_class": 1, "image_size": 32}
    block = parameters["mkd_ablation"] | {"categories": "all"}
    source = {"input_normalisation": "dataset"}
    plan = plan_mkd(parameters | {"dataset": digits, "mkd_ablation": block, "source": source})
    assert not plan.shares_classes


def test_detection_rules_are_planned_on_one_training():
    blocks = {name: OmegaConf.load(PROJECT / f"conf/base/parameters/{name}.yml") for name in ("ablation", "scoring")}
    given = {name: block for found in blocks.values() for name, block in OmegaConf.to_container(found).items()}
    given["mkd_ablation"]["axes"] = ["detection_rule"]
    cases = plan_mkd(least_parameters() | given).cases
    rules = [case.settings.scoring.model_dump(include={"detection", "forward_map"}) for case in cases]
    assert len(cases) == 7
    assert all(rules.count(rule) == 1 for rule in rules)
    assert {rule["detection"]["normalisation"] for rule in rules} == {"none", "per_pixel"}
    alike = [case.settings.model_copy(update={"scoring": None}) for case in cases]
    assert alike.count(alike[0]) == 7


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
