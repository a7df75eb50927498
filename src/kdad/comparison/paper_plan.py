"""Which cases fill the cells: each method on each category with each seed, planned as an ablation's variants are."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from kdad.comparison.paper_parameters import PaperMethodParameters, PaperTableParameters
from kdad.comparison.plan import (
    Case,
    Plan,
    category_datasets,
    first_message,
    flatten,
    merge,
    plan_ablation,
    shares_classes,
)
from kdad.detectors.baselines.parameters import BaselineParameters
from kdad.detectors.soft_target.parameters import SoftTargetParameters
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.errors import InputError
from kdad.parameters.dataset import CLASS_SETS, DatasetParameters
from kdad.parameters.strict import nearest_name

#: The ablation whose stages run a system, and the axis that its cells are planned as.
_ABLATIONS = {"mkd": "mkd_ablation", "uninformed_students": "students_ablation"}
#: Systems that no ablation varies, with their parameter block.
_OTHERS = {"baselines": BaselineParameters, "soft_target": SoftTargetParameters}
_QUESTION = "How far are our figures from the papers'?"


def plan_tables(parameters: dict[str, Any]) -> list[Plan]:
    """Return a plan for each system that has a method; raises `InputError` when a method's settings are not valid.

    A method that no chosen table shows is not planned, nor are soft targets for sets without labels and students whose
    receptive fields are larger than the images. A category at a method's own image size is a category of its own, such
    as ``class_8_36x36``.
    """
    block = PaperTableParameters(**parameters["paper_tables"])
    plans = []
    for system in (*_ABLATIONS, *_OTHERS):
        methods = {
            name: method
            for name, method in block.present.items()
            if method.system == system and block.shows_any(method.tables)
        }
        try:
            methods = {name: method for name, method in methods.items() if _applies(parameters, method)}
            if not methods:
                continue
            plan = _plan_variants if system in _ABLATIONS else _plan_others
            planned = plan(parameters, block, system, methods)
        except ValidationError as error:
            raise InputError(f"paper_tables.methods{first_message(error)}") from None
        plans += [planned] if planned.cases else []
    return plans


def _applies(parameters: dict[str, Any], method: PaperMethodParameters) -> bool:
    dataset = DatasetParameters(**_dataset_of(parameters, method))
    if method.system == "uninformed_students":
        students = StudentParameters(**merge(parameters["students"], method.settings.get("students", {})))
        return max(students.receptive_fields) <= min(dataset.size)
    return method.system != "soft_target" or dataset.name in CLASS_SETS


def _dataset_of(parameters: dict[str, Any], method: PaperMethodParameters) -> dict[str, Any]:
    own = {} if method.image_size is None else {"image_size": method.image_size}
    return parameters["dataset"] | own


def _plan_variants(
    parameters: dict[str, Any], block: PaperTableParameters, system: str, methods: dict[str, PaperMethodParameters]
) -> Plan:
    """Plan the methods of one image size at a time, and lay the plans together."""
    ablation = _ABLATIONS[system]
    plans = []
    for size in dict.fromkeys(str(method.image_size) for method in methods.values()):
        chosen = [name for name, method in methods.items() if str(method.image_size) == size]
        variants = {name: methods[name].settings for name in chosen}
        axis = {"question": _QUESTION, "compare_with": chosen[0], "variants": variants}
        planned = {"seeds": block.seeds, "categories": block.categories, "variants": {f"paper_{system}": axis}}
        dataset = _dataset_of(parameters, methods[chosen[0]])
        plan = plan_ablation(parameters | {"dataset": dataset, ablation: planned}, ablation)
        plans.append(plan if size == "None" else _apart(plan, DatasetParameters(**dataset).size))
    return Plan(
        ablation,
        tuple(case for plan in plans for case in plan.cases),
        {name: dataset for plan in plans for name, dataset in plan.datasets.items()},
        plans[0].shares_classes,
    )


def _apart(plan: Plan, size: tuple[int, int]) -> Plan:
    """Return the plan with its image size in the categories' names."""
    names = {name: f"{name}_{size[0]}x{size[1]}" for name in plan.datasets}
    cases = tuple(replace(case, category=names[case.category]) for case in plan.cases)
    return replace(plan, cases=cases, datasets={names[name]: dataset for name, dataset in plan.datasets.items()})


def _plan_others(
    parameters: dict[str, Any], block: PaperTableParameters, system: str, methods: dict[str, PaperMethodParameters]
) -> Plan:
    datasets = category_datasets(parameters["dataset"], block.categories, "paper_tables")
    cases = []
    for name, method in methods.items():
        where = f"paper_tables.methods.{name}"
        for changed in method.settings:
            if changed != system:
                raise InputError(f"{where} changes '{changed}'; a method of {system} may change '{system}' alone")
        bound = _OTHERS[system](**merge(parameters[system], method.settings.get(system, {})))
        if system == "baselines" and name not in bound.methods:
            raise InputError(f"{where}: baselines.methods has no '{name}'{nearest_name(name, list(bound.methods))}")
        if system == "baselines" and name not in bound.present:
            continue  # left out there, left out here
        values = bound.model_dump()
        if system == "baselines":
            values["methods"] = {name: values["methods"][name]}  # what others are set to is nothing to this case
        settings = flatten(method.settings)
        cases += [
            Case(f"paper_{system}", name, category, seed, {system: values}, settings, True)
            for category in datasets
            for seed in block.seeds
        ]
    return Plan(system, tuple(cases), datasets, shares_classes(datasets, parameters["source"]))
