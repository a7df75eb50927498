"""Plans: which cases answer a question; an ablation's variants, each with its complete settings."""

from dataclasses import dataclass, replace
from typing import Any

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.case import Case
from kdad.experiments.parameters import AblationParameters
from kdad.images.united import every_category
from kdad.parameters.dataset import CLASS_SETS, DatasetParameters
from kdad.parameters.strict import bind, flatten, merge, nearest_name

#: Ablations whose name is not that of their system.
_SYSTEM_OF = {"students_ablation": "uninformed_students"}
SUFFIX = "_ablation"
#: What a variant may change of the images: test images are the same for all, or the tables would compare unlike things.
_OF_IMAGES = ("contamination", "contamination_by", "max_train_images", "align")
#: What a variant may set ``dataset.category`` to: one detector of all the ablation's categories, measured on each.
UNITED = "all"


@dataclass(frozen=True)
class Plan:
    """Cases in their order, the data sets of their categories by name, and what most cases of a system share.

    The frozen networks of `bases`, settings by system, are run once for each category. With `shares_classes` the
    categories are classes of a labelled set, whose images a frozen network sees once for all of them.
    """

    name: str
    cases: tuple[Case, ...]
    datasets: dict[str, DatasetParameters]
    bases: dict[str, SystemSettings]
    shares_classes: bool = False

    def of_system(self, system: str) -> "Plan":
        """Return the same plan with the cases of one system alone."""
        return replace(self, cases=tuple(case for case in self.cases if case.system == system))


def system_of(ablation: str) -> str:
    """Return the system that an ablation varies: ``mkd`` of ``mkd_ablation``."""
    return _SYSTEM_OF.get(ablation, ablation.removesuffix(SUFFIX))


def ablation_of(system: str) -> str:
    """Return the name of the ablation that varies a system."""
    return next((name for name, varied in _SYSTEM_OF.items() if varied == system), system + SUFFIX)


def plan_ablation(parameters: dict[str, Any], name: str) -> Plan:
    """Lay every variant of an ablation over the run's own parameters.

    Raises `InputError`, naming axis and variant, when the result is not valid.
    """
    ablation = AblationParameters.model_validate(parameters[name])
    system = system_of(name)
    datasets = category_datasets(parameters["dataset"], ablation.categories, name)
    own = {field: parameters[field] for field in SYSTEMS[system].Settings.model_fields}
    check_blocks(ablation.base, list(own), f"{name}.base")
    shared = merge(own, ablation.base)
    cases, prepared = [], dict(datasets)
    for axis, questions in ablation.chosen.items():
        names = sorted({name for overrides in questions.present.values() for name in flatten(overrides)})
        for variant, overrides in questions.present.items():
            where = f"{name}.variants.{axis}.variants.{variant}"
            who = f"{name}.variants.{axis}: variant '{variant}'"
            check_blocks(overrides, [*own, "dataset"], who)
            settings = bind_settings(system, merge(shared, overrides), where)
            block = overrides.get("dataset", {})
            is_united = block.get("category") == UNITED
            if is_united:
                block = block | {"category": _united(datasets, name, who)}
            images = {category: _varied_images(one, block, who) for category, one in datasets.items()}
            prepared |= {one.category_name: one for one in images.values()}
            has_paper = questions.paper_metric is not None and variant in questions.paper
            paper = {questions.paper_metric: questions.paper[variant]} if has_paper else {}
            for category, one in images.items():
                varied, member = _values(settings, one, names), datasets[category].plain_name if is_united else ""
                rest = flatten(overrides), varied, paper, one.category_name, member
                cases += [Case(axis, variant, category, seed, system, settings, *rest) for seed in ablation.seeds]
    base = bind_settings(system, shared, f"{name}.base")
    return Plan(name, tuple(cases), prepared, {system: base}, shares_classes(prepared, base))


def _united(datasets: dict[str, DatasetParameters], name: str, who: str) -> list[str]:
    """Return the categories of an ablation, which one detector is to learn."""
    categories = [dataset.category for dataset in datasets.values()]
    if len(categories) < 2 or not all(isinstance(category, str) for category in categories):
        raise InputError(f"{who} is one detector of several categories; give {name}.categories two or more, or all")
    return categories


def _varied_images(dataset: DatasetParameters, block: dict[str, Any], who: str) -> DatasetParameters:
    """Return the images of a variant: the run's, contaminated, a part of them, or with those of other categories."""
    for field, value in block.items():
        if field not in _OF_IMAGES and not (field == "category" and isinstance(value, list)):
            may = f"{', '.join(_OF_IMAGES)}, and category to {UNITED}"
            raise InputError(f"{who} changes 'dataset.{field}'; of the images it may change {may}")
    return bind(DatasetParameters, dataset.model_dump() | block, f"{who}: dataset") if block else dataset


def _values(settings: SystemSettings, dataset: DatasetParameters, names: list[str]) -> dict[str, Any]:
    """Return the values of complete settings by dotted names."""
    every = flatten(settings.model_dump(mode="json") | {"dataset": dataset.model_dump(mode="json")})
    return {name: every[name] for name in names if name in every}


def bind_settings(system: str, blocks: dict[str, Any], where: str) -> SystemSettings:
    """Bind a system's parameter blocks; raises `InputError` that names the field below `where`."""
    model = SYSTEMS[system].Settings
    return bind(model, {name: blocks[name] for name in model.model_fields}, where)


def category_datasets(
    dataset: dict[str, Any], categories: list[str | int] | None, name: str
) -> dict[str, DatasetParameters]:
    """Return each category's dataset block by its name; `name` says in errors whose categories they are."""
    if categories is None:
        bound = bind(DatasetParameters, dataset, "dataset")
        return {bound.category_name: bound}
    if categories == ["all"]:
        categories = _every_category(dataset)
    field = "normal_class" if dataset["name"] in CLASS_SETS else "category"
    found = {}
    for category in categories:
        is_number = field == "normal_class" and str(category).isdigit()
        given = dataset | {field: int(category) if is_number else category}
        bound = bind(DatasetParameters, given, f"{name}.categories")
        found[bound.category_name] = bound
    return found


def shares_classes(datasets: dict[str, DatasetParameters], settings: SystemSettings) -> bool:
    """Say whether several classes of a labelled set are planned whose images a frozen network sees alike."""
    labelled = all(dataset.name in CLASS_SETS for dataset in datasets.values())
    # Statistics of the training images differ with the class that is normal.
    source = getattr(settings, "source", None)
    alike = source is None or source.input_normalisation != "dataset"
    return len(datasets) > 1 and labelled and alike


def _every_category(dataset: dict[str, Any]) -> list[str | int]:
    """List what `categories: all` means: every class, texture, type of cell, or folder in root that is a set."""
    if dataset["name"] in CLASS_SETS:
        return list(range(10))
    found = every_category(dataset["name"], dataset.get("root"))
    # A place that is not there or holds no sets is reported when its images are validated.
    return found or [dataset.get("category")]


def check_blocks(overrides: dict[str, Any], known: list[str], who: str) -> None:
    """Raise `InputError` when a variant, named by `who`, changes a block that its system does not have."""
    for block in overrides:
        if block not in known:
            raise InputError(f"{who} changes '{block}'; a variant may change blocks{nearest_name(block, known)}")
