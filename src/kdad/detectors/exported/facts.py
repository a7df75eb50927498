"""What an exported file says of itself: everything of a detector but its networks, as text beside them."""

import json
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from kdad.detectors.folder import ImageFacts
from kdad.errors import InputError
from kdad.images.files.value_range import EIGHT_BITS
from kdad.metrics.names import METRICS
from kdad.parameters.blocks import ExportPrecision, RuntimeName
from kdad.parameters.strict import StrictModel
from kdad.scoring.threshold import Calibration, PixelThreshold, Threshold

FORMAT = 3
#: By which key all facts are found as one JSON; the other keys repeat a few of them for clients that need no more.
KEY = "kdad"
DECISION = "anomalous when score > threshold"


class ExportAgreement(StrictModel):
    """How the file's answers differ from those of the detector in float32, over the images that it was checked on."""

    model_config = ConfigDict(allow_inf_nan=True)

    images: int
    images_are: str = Field(description="in words")
    score_difference: float = Field(description="the largest, as a share of the scores' range")
    map_difference: float | None = Field(None, description="the largest, as a share of the maps' range; null: no maps")
    decisions_changed: float = Field(description="share of test images decided otherwise, each by its own threshold")
    threshold_before: float = Field(description="of the detector")
    image_auroc: float | None = Field(None, description="of the file; null without both labels")
    image_auroc_before: float | None = None
    pixel_auroc: float | None = Field(None, description="of the file, at the detector's size; null without masks")
    pixel_auroc_before: float | None = None

    def statement(self) -> str:
        """Say it in a sentence."""
        said = (
            f"on {self.images} images ({self.images_are}) scores differ by {self.score_difference:.2g} of their range "
            f"at most, {self.decisions_changed:.2%} of the decisions changed"
        )
        for metric in (METRICS["image_auroc"], METRICS["pixel_auroc"]):
            before, after = getattr(self, f"{metric.key}_before"), getattr(self, metric.key)
            if after is not None:
                said += f", {metric.label} {metric.text(before)} -> {metric.text(after)}"
        return said


class ExportedFacts(StrictModel):
    """The metadata of an exported file."""

    model_config = ConfigDict(allow_inf_nan=True)  # what was measured, and no parameter

    format: int = Field(description="of this metadata; another is not read")
    runtime: RuntimeName = Field(description="that the file was checked with, and its own threshold set")
    precision: ExportPrecision
    system: str
    package: str = Field(description="version of the package that wrote it")
    commit: str | None = Field(None, description="that wrote it; that which trained is in made_by")
    settings: dict[str, Any] = Field(description="the parameter blocks that made the detector")
    image: ImageFacts
    map: str | None = Field(description="name of the map that is shown; null: scores alone")
    key: str = Field(description="of the learnt half")
    threshold: Threshold | None
    threshold_set_by: Literal["detector", "runtime"] = Field(
        "detector", description="runtime: on normal validation images through this file"
    )
    decision: str = DECISION
    validation_scores: list[float] = Field(description="of normal validation images, ascending")
    pixel_threshold: PixelThreshold | None = Field(None, description="of maps, by which regions are marked")
    by_category: dict[str, Calibration] = Field({}, description="thresholds of a detector of several categories")
    categories: list[str] = Field([], description="by whose moments the columns of category_scores are")
    colour_limits: tuple[float, float] | None = Field(None, description="values that a heat map's colours run between")
    made_by: dict[str, Any] = Field(description="data, its digest (images), seed, commit, date and metrics")
    loss: ExportAgreement | None = None
    sha256: str = Field("", description="of the file's graph; empty in one that an older version wrote")

    def texts(self) -> dict[str, str]:
        """Return what is written into the file, by key."""
        height, width = self.image.size
        values = self.image.values or EIGHT_BITS
        few = {
            "threshold": "" if self.threshold is None else repr(self.threshold.value),
            "decision": self.decision,
            "image_size": f"{height} x {width}",
            "values": f"8-bit RGB images, of which {values.low:g} becomes 0 and {values.high:g} becomes 1",
            "colour_limits": "" if self.colour_limits is None else "{!r} {!r}".format(*self.colour_limits),
            "precision": self.precision,
            "system": self.system,
            "dataset": f"{self.made_by.get('dataset')}/{self.made_by.get('category')}",
            "dataset_digest": str(self.made_by.get("images")),
            "seed": str(self.made_by.get("seed")),
            "commit": str(self.made_by.get("commit")),
            "format_version": str(self.format),
        }
        return {KEY: self.model_dump_json(), **{f"{KEY}.{name}": text for name, text in few.items()}}


def read_texts(texts: dict[str, str], file: str) -> ExportedFacts:
    """Return the facts that a file holds; raises `InputError` for a file that another program has written."""
    if KEY not in texts:
        raise InputError(f"'{file}' was not exported by kdad: it does not say what detector it is; give one that was")
    try:
        content = json.loads(texts[KEY])
        found = content.get("format") if isinstance(content, dict) else None
        if found == FORMAT:
            return ExportedFacts.model_validate_json(texts[KEY])
    except (ValidationError, ValueError) as error:
        what = str(error).splitlines()[-1].strip() or type(error).__name__
        raise InputError(
            f"what '{file}' says of its detector was changed ({what}); export the detector again"
        ) from error
    raise InputError(
        f"'{file}' is an export of format {found}, and this version of kdad reads format {FORMAT}; export the detector "
        "again, or use the version of kdad that wrote it"
    )
