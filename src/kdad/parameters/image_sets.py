"""What single image sets are made or understood by: blocks of the ``dataset:`` block."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel

DefectKind = Literal["scratch", "stain", "hole", "paste", "blur"]


class DefectParameters(StrictModel):
    """The defects that are drawn on test textures."""

    kinds: list[DefectKind] = Field(
        ["scratch", "stain", "hole", "paste", "blur"], min_length=1, description="kinds of defects, in order"
    )
    strength: float = Field(0.6, gt=0, le=1, description="how far a defect departs from the texture; 1 is the most")
    size: float = Field(0.22, gt=0, le=0.5, description="usual extent as a share of the image's shorter side")
    softness: float = Field(2.0, gt=0, le=32, description="width of a defect's edge in pixels")

    @model_validator(mode="after")
    def _kinds_once(self) -> "DefectParameters":
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"kinds names a defect twice: {', '.join(self.kinds)}")
        return self


class TextureParameters(StrictModel):
    """The set `textures`: crops of a photograph, with drawn defects."""

    seed: int = Field(0, ge=0, description="of crops and defects; apart from the run's, so that data stay the same")
    train_images: int = Field(120, ge=1, description="crops for training")
    validation_images: int = Field(30, ge=1, description="normal validation crops")
    test_normal: int = Field(30, ge=0, description="normal crops in the test part")
    test_per_defect: int = Field(12, ge=0, description="defective crops of each kind in the test part")
    defects: DefectParameters = Field(default_factory=DefectParameters, description="how defects look")

    @model_validator(mode="after")
    def _some_test_image(self) -> "TextureParameters":
        if self.test_normal == 0 and self.test_per_defect == 0:
            raise ValueError("test_normal and test_per_defect are both 0: there would be nothing to score")
        return self


class LayoutParameters(StrictModel):
    """What names in a folder or list mean, where usual words do not say it (docs/reference/data.md)."""

    normal: list[str] = Field([], description="folders, or labels in a list, of normal images, besides good, ok, ...")
    anomalous: list[str] = Field([], description="folders or labels of anomalous images, besides all that is not known")
    masks: list[str] = Field([], description="folders of masks, besides ground_truth, masks, ...")
    anomalous_in_masks: Literal["bright", "dark"] | None = Field(
        None, description="bright or dark pixels; null: bright, and a question where that seems wrong"
    )

    @model_validator(mode="after")
    def _one_meaning_each(self) -> "LayoutParameters":
        said = [name for names in (self.normal, self.anomalous, self.masks) for name in names]
        twice = sorted({name for name in said if said.count(name) > 1})
        if twice:
            raise ValueError(f"'{twice[0]}' is said twice in layout; a name has one meaning")
        return self


class ElpvParameters(StrictModel):
    """The set `elpv`: which cells are normal, by the probability of a defect that experts gave (0, 1/3, 2/3 or 1)."""

    normal_up_to: float = Field(0.0, ge=0, lt=1, description="cells of at most this probability are normal")
    anomalous_from: float = Field(0.5, gt=0, le=1, description="from this on anomalous; cells between are left out")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the normal cells that is tested")

    @model_validator(mode="after")
    def _apart(self) -> "ElpvParameters":
        if self.anomalous_from <= self.normal_up_to:
            raise ValueError(
                f"anomalous_from {self.anomalous_from} must be above normal_up_to {self.normal_up_to}: a cell is one "
                "or the other"
            )
        return self
