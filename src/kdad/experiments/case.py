"""A case: a detector's settings on one category with one seed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.storage.provenance import code_digest

if TYPE_CHECKING:
    from kdad.detectors.detector import Detector


@dataclass(frozen=True)
class Case:
    """One variant of a system on one category with one seed: the unit that is trained, scored and measured.

    `settings` are complete; `overrides` say, by dotted names, what differs from the run's own, and `varied` are the
    values here of all that the axis' variants differ in. `paper` has the paper's figures, by metric. `images` names the
    data set where it is not the category's own, but one with contamination.
    """

    axis: str
    variant: str
    category: str
    seed: int
    system: str
    settings: SystemSettings
    overrides: dict[str, Any]
    varied: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    images: str = ""

    @property
    def detector(self) -> "type[Detector]":
        """The system's class."""
        return SYSTEMS[self.system].detector

    @property
    def head(self) -> dict[str, Any]:
        """What a result says of whose it is."""
        return {"axis": self.axis, "variant": self.variant, "category": self.category, "seed": self.seed}

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Axis, variant, category and seed."""
        return self.axis, self.variant, self.category, self.seed

    @property
    def name(self) -> str:
        """Axis, variant, category and seed in one word."""
        return f"{self.axis}.{self.variant}.{self.category}_seed_{self.seed}"

    @property
    def prepared(self) -> str:
        """The name of the images that it is run on."""
        return self.images or self.category


def code_of(system: str) -> str:
    """Return a digest of the code behind a system's results: its own, and that of fitting, mapping and measuring."""
    return code_digest(
        *(SYSTEMS[system].module, "kdad.detectors.evaluation"),
        *("kdad.metrics.measure", "kdad.features.extraction"),
    )
