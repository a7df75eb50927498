"""The ``paper_tables:`` block: which of our methods stand beside which of the papers' figures."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.ablation_parameters import Overrides
from kdad.parameters.dataset import check_sides
from kdad.parameters.strict import StrictModel, nearest_name

TABLES = ("mkd_one_class", "mkd_mvtec", "mkd_gaussian_ablation", "us_pro")


class PaperMethodParameters(StrictModel):
    """One of our methods: its system, settings, and what the papers' tables call it.

    A method of ``baselines`` has a name of ``baselines.methods``.
    """

    system: str = Field(description="which system runs")
    tables: list[str] = Field(["all"], description="tables that show it, or all")
    paper: list[str] = Field(default_factory=list, description="its names in the papers' tables")
    settings: Overrides = Field(default_factory=dict, description="what differs from the run's own blocks")
    image_size: int | list[int] | None = Field(
        None,
        description="a size of its own, instead of dataset.image_size",
    )

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
    methods: dict[str, PaperMethodParameters | None] = Field(description="by name; null leaves a method out")

    @model_validator(mode="after")
    def _tables_are_known(self) -> "PaperTableParameters":
        named = [self.tables, *(method.tables for method in self.present.values())]
        for name in [name for names in named if names != ["all"] for name in names]:
            if name not in TABLES:
                raise ValueError(f"there is no table '{name}'{nearest_name(name, list(TABLES))}")
        if not self.tables:
            raise ValueError("tables is empty; give 'all' or names")
        if not self.present:
            raise ValueError("methods leaves every method out; keep one")
        return self

    def shows_any(self, named: list[str]) -> bool:
        """Whether one of the `named` tables of a method (``["all"]``: those that compare methods) is chosen."""
        return self.tables == ["all"] or named == ["all"] or bool(set(named) & set(self.tables))

    @property
    def present(self) -> dict[str, PaperMethodParameters]:
        """The methods that an environment has not left out."""
        return {name: method for name, method in self.methods.items() if method is not None}
