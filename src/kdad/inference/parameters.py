"""The ``inference:``, ``comparison:`` and ``calibration:`` blocks: kept detectors, and images new to them."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from kdad.parameters.dataset import TileParameters, check_groups_of_files
from kdad.parameters.strict import StrictModel
from kdad.scoring.parameters import LABELLED_RULES, RULES_WITHOUT_VALUE, DriftParameters, ThresholdRule


class WatchingParameters(StrictModel):
    """When a file that arrives is complete, when one is given up, when a watch ends by itself."""

    polling: bool = Field(False, description="look at the folder again and again: network folders tell of no changes")
    poll_seconds: float = Field(1.0, gt=0, le=3600, description="between two looks when polling")
    settle_seconds: float = Field(
        1.0, ge=0, le=3600, description="a file is complete when unchanged for so long, or when it was closed"
    )
    patience_seconds: float = Field(
        10.0, ge=0, le=86400, description="a file that cannot be read is tried again after so long unchanged, then told"
    )
    page_seconds: float = Field(5.0, gt=0, le=86400, description="between two versions of the page, at least")
    page_images: int = Field(500, ge=1, le=20000, description="latest images on the page; the table has all")
    idle_seconds: float | None = Field(None, gt=0, description="end when nothing came for so long; null: never")
    seconds: float | None = Field(None, gt=0, description="end after so long; null: never")


def _refuse_category_by_tiles(category: str | None, tiles: TileParameters | None) -> None:
    if category is not None and tiles is not None:
        raise ValueError("a threshold for tiles is of all categories together; set category: null, or tiles: null")


class InferenceParameters(StrictModel):
    """The ``inference:`` block."""

    images: str | None = Field(None, description="folder, of any layout, or one image file; must be given")
    detector: str = Field(
        "latest", description="a folder, an exported file, latest, or runs:/ID, models:/NAME@ALIAS of MLflow"
    )
    category: str | None = Field(
        None, description="of a detector of several categories: decide by this one's threshold; null: by the common one"
    )
    groups: str | None = Field(
        None,
        description="of a detector that decides on groups: which images are of one part, folder or a pattern of names "
        "as in dataset.groups, in a watch by those that have come; null: images alone are decided on",
    )
    output: str | None = Field(
        None, description="where results go; null: data/08_reporting/inference/<last name of images>"
    )
    batch_size: int = Field(8, ge=1, description="images, or tiles of one, in memory at once")
    heat_maps: bool = Field(True, description="write a heat map for each image, at its own size")
    maps: bool = Field(False, description="write maps.npy, all anomaly maps at the detector's size")
    tiles: TileParameters | None = Field(
        None,
        description="{size, overlap}: larger images are scored part by part (docs/how_to/large_images.md); null: all "
        "are resized",
    )
    watch: bool = Field(
        False, description="predict files as they arrive in the folder, until Ctrl-C (docs/how_to/watching.md)"
    )
    watching: WatchingParameters = Field(default_factory=WatchingParameters, description="of a watch")
    drift: DriftParameters = Field(
        default_factory=DriftParameters, description="when scores have left normal ones (docs/reference/drift.md)"
    )
    sheet_images: int = Field(40, ge=1, le=200, description="images on the contact sheet, highest scores first")

    _groups_of_files = field_validator("groups")(check_groups_of_files)

    @model_validator(mode="after")
    def _maps_of_one_size_and_number(self) -> "InferenceParameters":
        if self.maps and self.tiles is not None:
            raise ValueError("maps.npy holds maps of one size, which images by tiles have not; set maps: false")
        if self.maps and self.watch:
            raise ValueError("maps.npy is of a known number of images, which a watch has not; set maps: false")
        _refuse_category_by_tiles(self.category, self.tiles)
        return self


class ComparisonParameters(StrictModel):
    """The ``comparison:`` block."""

    detectors: list[str] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="[A, B], each as inference.detector: the one in use, and one that may replace it; must be given",
    )
    images: str | None = Field(None, description="folder of images, of any layout, for both; must be given")
    category: str | None = Field(None, description="as inference.category, which both must have learnt")
    tiles: TileParameters | None = Field(None, description="as inference.tiles, for which both must have a threshold")

    @model_validator(mode="after")
    def _one_threshold_each(self) -> "ComparisonParameters":
        _refuse_category_by_tiles(self.category, self.tiles)
        return self


class CalibrationParameters(StrictModel):
    """The ``calibration:`` block."""

    detector: str = Field(
        "latest", description="a folder, an exported file, latest, or runs:/ID, models:/NAME@ALIAS of MLflow"
    )
    images: str | None = Field(
        None, description="folder of normal images, or of labelled ones; null: the scores of the validation images"
    )
    groups: str | None = Field(
        None,
        description="which of the images belong together, folder or a pattern of names as in dataset.groups: the "
        "threshold promises of groups, and those of a detector that decides on them get theirs; null: none do",
    )
    rule: ThresholdRule = Field(
        "quantile",
        description="how the threshold is set; f1, youden and true_positive_rate need labelled images; value: your "
        "own, which promises nothing",
    )
    value: float | None = Field(
        0.95, description="the quantile, the wanted rate, or your own threshold; f1 and youden take none"
    )
    pixel_rule: Literal["quantile", "false_positive_rate", "value"] | None = Field(
        None,
        description="how a threshold on maps is set, of how many normal images have a region above it; value: your "
        "own, which promises nothing; null: it stays",
    )
    pixel_value: float = Field(0.95, description="the quantile, the wanted rate, or your own threshold on maps")
    min_area: int | None = Field(
        None, ge=1, description="pixels of an image's file that a marked region has at least; null: as it was"
    )
    tiles: TileParameters | None = Field(
        None, description="the threshold is of images that are predicted by these tiles; null: of whole ones"
    )
    output: str | None = Field(
        None, description="results; null: data/06_models/calibrated/<detector>/<images>-<digest>/<rule>_<value>"
    )
    batch_size: int = Field(8, ge=1, description="images, or tiles of one, in memory at once")

    _groups_of_files = field_validator("groups")(check_groups_of_files)

    @property
    def wanted(self) -> float | None:
        """The value, for a rule that takes one."""
        return None if self.rule in RULES_WITHOUT_VALUE else self.value

    @model_validator(mode="after")
    def _rule_has_what_it_takes(self) -> "CalibrationParameters":
        if self.images is None and self.rule in LABELLED_RULES:
            raise ValueError(f"rule '{self.rule}' needs labelled images; give calibration.images")
        if self.groups is not None and (self.images is None or self.rule in LABELLED_RULES):
            why = "is of calibration.images" if self.images is None else f"does not go with the rule '{self.rule}'"
            raise ValueError(f"groups {why}; set groups: null")
        if self.pixel_rule is not None and self.tiles is not None:
            raise ValueError("pixel_rule is of whole images, and there are tiles; set pixel_rule: null")
        if self.pixel_rule is None and self.min_area is not None:
            raise ValueError("min_area goes with pixel_rule, by which a threshold on maps is set; give it, or null")
        if self.images is None and self.tiles is not None:
            raise ValueError(
                "a threshold for tiles needs normal images that are cut alike; give calibration.images, or tiles: null"
            )
        if self.value is None and self.rule not in RULES_WITHOUT_VALUE:
            raise ValueError(f"rule '{self.rule}' needs a value: the quantile, the wanted rate, or your own threshold")
        for rule, name in ((self.rule, "value"), (self.pixel_rule, "pixel_value")):
            usual, value = type(self).model_fields[name].default, getattr(self, name)
            if rule == "value" and value == usual:
                raise ValueError(
                    f"rule 'value' takes your own threshold, and {usual} is the usual quantile; give "
                    f"calibration.{name} (for just that, {usual}00001)"
                )
            # The usual value is a quantile: as a rate it would call nearly every normal image anomalous.
            if rule == "false_positive_rate" and value > 0.5:
                raise ValueError(
                    f"a false positive rate of {value} is above 0.5; give calibration.{name}, such as 0.01"
                )
        return self
