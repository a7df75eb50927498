"""The blocks of plans: axes of an ablation, each variant holding only what differs, and methods beside papers."""

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from kdad.detectors.registry import SYSTEMS
from kdad.parameters.dataset import check_sides
from kdad.parameters.strict import StrictModel, merge, nearest_name

Overrides = dict[str, Any]
_VARIANT_NAME = re.compile(r"[A-Za-z0-9_-]+")  # what Kedro allows between the dots of a namespace


class AxisParameters(StrictModel):
    """One question, and the variants that answer it."""

    question: str = Field(description="what the axis asks, for the report")
    compare_with: str | dict[str, str] = Field(description="the variant that others are compared with, or one for each")
    by_default: bool = Field(True, description="whether `axes: all` has it; else it is run when it is named")
    paper: dict[str, float] = Field(default_factory=dict, description="the paper's figure by variant, of paper_metric")
    paper_metric: str | None = Field(None, description="metric of the paper's figures")
    variants: dict[str, Overrides | None] = Field(description="what differs, by name; null leaves a variant out")

    @property
    def present(self) -> dict[str, Overrides]:
        """The variants that an environment has not left out."""
        return {name: overrides for name, overrides in self.variants.items() if overrides is not None}

    @model_validator(mode="after")
    def _references_exist(self) -> "AxisParameters":
        if not self.present:
            raise ValueError("the axis has no variant")
        pairs = self.compare_with if isinstance(self.compare_with, dict) else {self.compare_with: self.compare_with}
        for name in {*pairs, *pairs.values(), *self.paper}:
            if name not in self.variants:
                raise ValueError(f"compare_with or paper names '{name}'{nearest_name(name, list(self.variants))}")
        return self


#: Axes of the training images alone, which every ablation has beside its own; each is run when it is named.
IMAGE_AXES: dict[str, dict[str, Any]] = {
    "learning_curve": {
        "question": "How many normal images are enough?",
        "compare_with": "all_images",
        "variants": {
            **{f"images_{count}": {"dataset": {"max_train_images": count}} for count in (1, 2, 4, 8, 16, 32)},
            "all_images": {},
        },
    },
    "unified": {
        "question": "What does one detector of all categories lose against one of each?",
        "compare_with": "one_each",
        "variants": {"one_each": {}, "unified": {"dataset": {"category": "all"}}},
    },
    "alignment": {
        "question": "Does it help to turn each image as the training images lie?",
        "compare_with": "as_they_are",
        "variants": {"as_they_are": {}, "rotation": {"dataset": {"align": "rotation"}}},
    },
    "contamination": {
        "question": "How far does it fall when anomalous images are among the training images?",
        "compare_with": "clean",
        "variants": {
            "clean": {},
            "one_percent": {"dataset": {"contamination": 0.01}},
            "five_percent": {"dataset": {"contamination": 0.05}},
            "ten_percent": {"dataset": {"contamination": 0.1}},
        },
    },
}


class AblationParameters(StrictModel):
    """The block of an ablation; to its axes are added those of the images."""

    axes: list[str] = Field(["all"], description="all, or the names of the axes to run")
    seeds: list[int] = Field([0], min_length=1, description="of initialisation and order; the split stays the run's")
    categories: list[str | int] | None = Field(
        None, description="categories or classes, or all; null: the data set's own"
    )
    base: Overrides = Field(default_factory=dict, description="what all variants share, over the run's own blocks")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of the test images for each pair")
    variants: dict[str, AxisParameters] = Field(
        description="axes by name, beside learning_curve, unified, alignment and contamination"
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _have_axes_of_images(cls, variants: Any) -> Any:
        common = {name: axis | {"by_default": False} for name, axis in IMAGE_AXES.items()}
        return merge(common, variants) if isinstance(variants, dict) else variants

    @property
    def chosen(self) -> dict[str, AxisParameters]:
        """The axes to run."""
        if self.axes == ["all"]:
            return {name: axis for name, axis in self.variants.items() if axis.by_default}
        return {name: self.variants[name] for name in self.axes}

    @model_validator(mode="after")
    def _names_are_known_once(self) -> "AblationParameters":
        for name in [*self.variants, *(variant for axis in self.variants.values() for variant in axis.variants)]:
            if not _VARIANT_NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot name an axis or variant; use letters, digits, - and _")
        for name in self.axes if self.axes != ["all"] else []:
            if name not in self.variants:
                raise ValueError(f"there is no axis '{name}'{nearest_name(name, list(self.variants))}")
        if not self.chosen:
            raise ValueError("axes is empty, or none is there by default; give names")
        for field, values in (("seeds", self.seeds), ("categories", self.categories or []), ("axes", self.axes)):
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names a value twice: {values}")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds must not be negative: {self.seeds}")
        if self.categories is not None and not self.categories:
            raise ValueError("categories is empty; give some, or null for the data set's own")
        return self


TABLES = ("mkd_one_class", "mkd_mvtec", "mkd_gaussian_ablation", "us_pro")


class PaperMethodParameters(StrictModel):
    """One of our methods: its system, settings, and what the papers' tables call it.

    A method of ``baselines`` has a name of ``baselines.methods``.
    """

    system: str = Field(description="which system runs")
    tables: list[str] = Field(["all"], description="tables that show it, or all")
    paper: list[str] = Field(default_factory=list, description="its names in the papers' tables")
    settings: Overrides = Field(default_factory=dict, description="what differs from the run's own blocks")
    image_size: int | list[int] | None = Field(None, description="a size of its own, instead of dataset.image_size")
    by_default: bool = Field(True, description="whether `chosen: all` has it; else it is run when it is named")

    @field_validator("image_size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        return None if value is None else check_sides(value)

    @field_validator("system")
    @classmethod
    def _known(cls, system: str) -> str:
        if system not in SYSTEMS:
            raise ValueError(f"there is no system '{system}'{nearest_name(system, list(SYSTEMS))}")
        return system


class PaperTableParameters(StrictModel):
    """The ``paper_tables:`` block."""

    tables: list[str] = Field(
        ["all"],
        description="mkd_one_class, mkd_mvtec, mkd_gaussian_ablation, us_pro, as far as the data set has them, or all",
    )
    paper_dataset: str | None = Field(
        None, description="the papers' name of the data set; null: dataset.name (digits: mnist)"
    )
    categories: list[str | int] = Field(["all"], min_length=1, description="categories or classes, or all")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="of initialisation and order")
    chosen: list[str] = Field(["all"], min_length=1, description="methods to run, or all that are by default")
    methods: dict[str, PaperMethodParameters | None] = Field(description="by name; null leaves a method out")

    @model_validator(mode="after")
    def _methods_are_known(self) -> "PaperTableParameters":
        known = list(self._known)
        for name in self.chosen if self.chosen != ["all"] else []:
            if name not in known:
                raise ValueError(f"there is no method '{name}'{nearest_name(name, known)}")
        if not self.present:
            raise ValueError("methods leaves every method out; keep one")
        return self

    @model_validator(mode="after")
    def _tables_are_known(self) -> "PaperTableParameters":
        named = [self.tables, *(method.tables for method in self.present.values())]
        for name in [name for names in named if names != ["all"] for name in names]:
            if name not in TABLES:
                raise ValueError(f"there is no table '{name}'{nearest_name(name, list(TABLES))}")
        if not self.tables:
            raise ValueError("tables is empty; give 'all' or names")
        return self

    def shows_any(self, named: list[str]) -> bool:
        """Whether one of the `named` tables of a method (``["all"]``: those that compare methods) is chosen."""
        return self.tables == ["all"] or named == ["all"] or bool(set(named) & set(self.tables))

    @property
    def present(self) -> dict[str, PaperMethodParameters]:
        """The methods to run."""
        if self.chosen == ["all"]:
            return {name: method for name, method in self._known.items() if method.by_default}
        return {name: self._known[name] for name in self.chosen}

    @property
    def _known(self) -> dict[str, PaperMethodParameters]:
        """Those that are not left out; a system that stands among the baselines has one without being named."""
        named = {name: method for name, method in self.methods.items() if method is not None}
        absent = SYSTEMS.keys() - {method.system for method in named.values()} - self.methods.keys()
        return named | {
            system: PaperMethodParameters(system=system)
            for system, known in SYSTEMS.items()
            if system in absent and known.Settings.stands_among_baselines
        }
