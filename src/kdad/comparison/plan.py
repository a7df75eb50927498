"""The plan of an ablation: every variant with its full parameters, for every category and seed."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdad.comparison.ablation_parameters import AblationParameters, StudentAblationParameters
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.detectors.uninformed_students.parameters import StudentParameters, StudentScoringParameters, TeacherParameters
from kdad.errors import InputError
from kdad.parameters.dataset import CLASS_SETS, TEXTURES, DatasetParameters
from kdad.parameters.scoring import ScoringParameters
from kdad.parameters.source import FeatureParameters, SourceParameters
from kdad.parameters.strict import StrictModel

#: What a variant may change, by ablation.
_MODELS: dict[str, dict[str, type[StrictModel]]] = {
    "mkd_ablation": {
        "source": SourceParameters,
        "features": FeatureParameters,
        "cloner": ClonerParameters,
        "scoring": ScoringParameters,
    },
    "students_ablation": {
        "teacher": TeacherParameters,
        "students": StudentParameters,
        "student_scoring": StudentScoringParameters,
    },
}
_BLOCKS = {"mkd_ablation": AblationParameters, "students_ablation": StudentAblationParameters}


@dataclass(frozen=True)
class Case:
    """One variant on one category with one seed: the unit that is trained, scored and measured."""

    axis: str
    variant: str
    category: str
    seed: int
    blocks: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    shares_source: bool

    @property
    def head(self) -> dict[str, Any]:
        """What a result says of whose it is."""
        return {"axis": self.axis, "variant": self.variant, "category": self.category, "seed": self.seed}

    @property
    def namespace(self) -> str:
        """Axis, variant and case: nested boxes in Kedro-Viz."""
        return f"{self.axis}.{self.variant}.{self.category}_seed_{self.seed}"


@dataclass(frozen=True)
class Plan:
    """Every case of an ablation's chosen axes, in their order, and the data sets of the categories by namespace."""

    name: str
    cases: tuple[Case, ...]
    datasets: dict[str, dict[str, Any]]
    shares_classes: bool = False  # several classes of a labelled set, whose images the source sees alike

    def block(self, values: dict[str, Any]) -> AblationParameters:
        """Bind the ablation's own parameter block."""
        return _BLOCKS[self.name](**values)


def plan_ablation(parameters: dict[str, Any], name: str = "mkd_ablation") -> Plan:
    """Lay every variant of the ablation ``mkd_ablation`` or ``students_ablation`` over the run's own parameters.

    Raises `InputError`, naming axis and variant, when the result is not valid.
    """
    ablation = _BLOCKS[name](**parameters[name])
    datasets = category_datasets(parameters["dataset"], ablation.categories, name)
    models = _MODELS[name]
    base = {block: parameters[block] for block in models}
    shared = merge(base, ablation.base)
    own = _bind(models, base, "the run's parameters")
    cases = []
    for axis, block in ablation.chosen.items():
        for variant, overrides in block.present.items():
            blocks = _bind(models, merge(shared, overrides), f"{name}.variants.{axis}.variants.{variant}")
            shares_source = all(blocks.get(block) == own.get(block) for block in ("source", "features"))
            settings = flatten(overrides)
            cases += [
                Case(axis, variant, category, seed, blocks, settings, shares_source)
                for category in datasets
                for seed in ablation.seeds
            ]
    return Plan(name, tuple(cases), datasets, shares_classes(datasets, own.get("source", {})))


def category_namespace(dataset: dict[str, Any]) -> str:
    """Return the category's name with what a Kedro namespace cannot hold replaced by underscores."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", DatasetParameters(**dataset).category_name)


def category_datasets(
    dataset: dict[str, Any], categories: list[str | int] | None, name: str
) -> dict[str, dict[str, Any]]:
    """Return each category's dataset block by its namespace; `name` says in errors whose categories they are."""
    if categories is None:
        return {category_namespace(dataset): dataset}
    if categories == ["all"]:
        categories = _every_category(dataset)
    field = "category" if dataset["name"] in ("textures", "folder") else "normal_class"
    found = {}
    for category in categories:
        is_number = field == "normal_class" and str(category).isdigit()
        changed = {**dataset, field: int(category) if is_number else category}
        try:
            found[category_namespace(changed)] = changed
        except ValidationError as error:
            raise InputError(f"{name}.categories: {first_message(error)}") from None
    return found


def _every_category(dataset: dict[str, Any]) -> list[str | int]:
    """List what `categories: all` means: every class, texture, or folder in root that has a train part."""
    if dataset["name"] in CLASS_SETS:
        return list(range(10))
    if dataset["name"] == "textures":
        return list(TEXTURES)
    root = Path(dataset.get("root") or "").expanduser()
    found = sorted(folder.parent.name for folder in root.glob("*/train") if folder.is_dir())
    # A folder that is not there or has no such part is reported when its images are validated.
    return found or [dataset.get("category")]


def shares_classes(datasets: dict[str, dict[str, Any]], source: dict[str, Any]) -> bool:
    """Say whether several classes of a labelled set are planned whose images the source sees alike."""
    labelled = all(dataset["name"] in CLASS_SETS for dataset in datasets.values())
    # Statistics of the training images differ with the class that is normal.
    alike = source.get("input_normalisation") != "dataset"
    return len(datasets) > 1 and labelled and alike


def _bind(models: dict[str, type[StrictModel]], blocks: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Bind each block to its model, and return all of its values, defaults among them."""
    bound = {}
    for block, model in models.items():
        try:
            bound[block] = model(**blocks[block]).model_dump()
        except ValidationError as error:
            raise InputError(f"{where}.{block}{first_message(error)}") from None
    return bound


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay nested dictionaries over each other; lists and values are replaced."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def first_message(error: ValidationError) -> str:
    """Return the first thing that is wrong, after the field's name."""
    problem = error.errors()[0]
    field = "".join(f".{part}" for part in problem["loc"])
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
