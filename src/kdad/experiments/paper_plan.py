"""Which cases fill the cells of the papers' tables, and the rows of the baselines' one; and every planned pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.experiments.case import Case
from kdad.experiments.parameters import PaperMethodParameters, PaperTableParameters
from kdad.experiments.plan import (
    Plan,
    ablation_of,
    bind_settings,
    category_datasets,
    check_blocks,
    plan_ablation,
    shares_classes,
)
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import flatten, merge


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
