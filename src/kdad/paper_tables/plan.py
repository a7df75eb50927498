"""Which cases fill the cells: each method on each category with each seed, planned as an ablation's variants are."""

from typing import Any

from pydantic import ValidationError

from kdad.ablation.variants import Plan, first_message, plan_ablation
from kdad.errors import InputError
from kdad.parameters.paper_tables import PaperTableParameters

#: The ablation whose stages run a system, and the axis that its cells are planned as.
_ABLATIONS = {"mkd": "mkd_ablation", "uninformed_students": "students_ablation"}
_QUESTION = "How far are our figures from the papers'?"


def plan_tables(parameters: dict[str, Any]) -> list[Plan]:
    """Return a plan for each system that has a method; raises `InputError` when a method's settings are not valid."""
    block = PaperTableParameters(**parameters["paper_tables"])
    plans = []
    for system, ablation in _ABLATIONS.items():
        variants = {name: method.settings for name, method in block.present.items() if method.system == system}
        if variants:
            axis = {"question": _QUESTION, "compare_with": next(iter(variants)), "variants": variants}
            planned = {"seeds": block.seeds, "categories": block.categories, "variants": {f"paper_{system}": axis}}
            try:
                plans.append(plan_ablation(parameters | {ablation: planned}, ablation))
            except ValidationError as error:
                raise InputError(f"paper_tables.methods{first_message(error)}") from None
    return plans
