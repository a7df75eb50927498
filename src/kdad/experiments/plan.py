"""Plans: which cases answer a question, or stand beside the papers, each with its complete settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.case import Case
from kdad.experiments.parameters import AblationParameters, PaperMethodParameters, PaperTableParameters
from kdad.images.layouts.lists import every_category
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


def plan_tables(parameters: dict[str, Any]) -> list[Plan]:
    """Return a plan for each system that has a method; raises `InputError` when a method's settings are not valid.

    A system that stands among the baselines has a method of its name without being named. A method that no chosen table
    shows is not planned, nor one that cannot see such images. A category at a method's own image size is a category of
    its own, such as ``class_8_36x36``.
    """
    block = PaperTableParameters.model_validate(parameters["paper_tables"])
    plans = []
    for system in SYSTEMS:
        chosen = {
            name: method
            for name, method in block.present.items()
            if method.system == system and block.shows_any(method.tables)
        }
        by_size: dict[str, list[str]] = {}
        for name, method in chosen.items():
            by_size.setdefault(str(method.image_size), []).append(name)
        for names in by_size.values():
            plans += _plan_methods(parameters, block, system, {name: chosen[name] for name in names})
    return plans


def plan_baselines(parameters: dict[str, Any]) -> Plan:
    """Return a case for every baseline, and for every system that stands among them, on the run's own category.

    Raises `InputError` when the settings of any are not valid.
    """
    datasets = category_datasets(parameters["dataset"], None, "baselines")
    (category,) = datasets
    bind_settings("baselines", parameters, "parameters")
    variants = [
        ("baselines", name) for name, method in parameters["baselines"]["methods"].items() if method is not None
    ]
    variants += [(system, system) for system, known in SYSTEMS.items() if known.Settings.stands_among_baselines]
    cases, bases = [], {}
    for system, name in variants:
        settings = variant_settings(parameters, system, name, {}, f"baselines.methods.{name}")
        bases.setdefault(system, settings)
        cases.append(Case("baselines", name, category, parameters["seed"], system, settings, {}))
    return Plan("baselines", tuple(cases), datasets, bases)


def variant_settings(
    parameters: dict[str, Any], system: str, name: str, overrides: dict[str, Any], where: str
) -> SystemSettings | None:
    """Return a system's settings for the variant of this name; None for one that is left out."""
    model = SYSTEMS[system].Settings
    blocks = {field: parameters[field] for field in model.model_fields}
    check_blocks(overrides, list(blocks), where)
    chosen = model.select_variant(merge(blocks, overrides), name, where)
    return None if chosen is None else bind_settings(system, chosen, where)


def _plan_methods(
    parameters: dict[str, Any], block: PaperTableParameters, system: str, methods: dict[str, PaperMethodParameters]
) -> list[Plan]:
    """Plan methods of one system and one image size."""
    size = next(iter(methods.values())).image_size
    dataset = parameters["dataset"] | ({} if size is None else {"image_size": size})
    datasets = category_datasets(dataset, block.categories, "paper_tables")
    names = {name: name if size is None else _with_size(name, one) for name, one in datasets.items()}
    first = next(iter(datasets.values()))
    cases: list[Case] = []
    for name, method in methods.items():
        where = f"paper_tables.methods.{name}"
        settings = variant_settings(parameters, system, name, method.settings, where)
        if settings is None or not settings.supports(first):
            continue
        cases += [
            Case(f"paper_{system}", name, names[category], seed, system, settings, flatten(method.settings))
            for category in datasets
            for seed in block.seeds
        ]
    if not cases:
        return []
    base = cases[0].settings
    renamed = {names[name]: one for name, one in datasets.items()}
    plan = Plan(f"paper_{system}", tuple(cases), renamed, {system: base}, shares_classes(datasets, base))
    return [plan]


def _with_size(name: str, dataset: DatasetParameters) -> str:
    return f"{name}_{dataset.size[0]}x{dataset.size[1]}"


@dataclass(frozen=True)
class Planned:
    """How a pipeline's cases are planned: of which parameter blocks, by which function, for which systems."""

    blocks: tuple[str, ...]
    systems: tuple[str, ...]
    plan: Callable[[dict[str, Any]], list[Plan]]


def _planned(name: str, plan: Callable[[dict[str, Any]], list[Plan]], *systems: str) -> Planned:
    fields = [field for system in systems for field in SYSTEMS[system].Settings.model_fields]
    return Planned(tuple(dict.fromkeys([name, "dataset", "seed", *fields])), systems, plan)


def _plan_one(plan: Callable[[dict[str, Any]], Plan], parameters: dict[str, Any]) -> list[Plan]:
    return [plan(parameters)]


_STANDING = [name for name, system in SYSTEMS.items() if system.Settings.stands_among_baselines]
#: The pipelines that run cases, by name: every system has an ablation, whose questions stand in YAML.
PLANNED: dict[str, Planned] = {
    "baselines": _planned("baselines", partial(_plan_one, plan_baselines), "baselines", *_STANDING),
    "paper_tables": _planned("paper_tables", plan_tables, *SYSTEMS),
    **{
        name: _planned(name, partial(_plan_one, partial(plan_ablation, name=name)), system)
        for system in SYSTEMS
        for name in [ablation_of(system)]
    },
}
