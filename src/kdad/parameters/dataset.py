"""The ``dataset:`` block: which images, at what size, and how the default set is made."""

from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kdad.parameters.strict import StrictModel, nearest_name

TEXTURES = ("brick", "grass", "gravel")
#: Labelled sets, of which one class is normal.
CLASS_SETS = ("digits", "mnist", "fashion_mnist", "cifar10")
#: What the limits of values are taken from, where they are not given.
RANGE_RULES = ("auto", "type", "data")
DefectKind = Literal["scratch", "stain", "hole", "paste", "blur"]


def check_sides(value: Any) -> Any:
    """Return an image size, sides in words as numbers; raises `ValueError` for what is neither one number nor two."""
    if isinstance(value, list):
        value = [int(side) if isinstance(side, str) and side.isdecimal() else side for side in value]
    sides = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if not all(type(side) is int and 8 <= side <= 8192 for side in sides):
        raise ValueError("image_size is a number of pixels or [height, width], each from 8 to 8192")
    return value


def check_value_range(value: Any) -> Any:
    """Return a rule or two ascending limits as numbers; raises `ValueError` for what is neither."""
    words = value if isinstance(value, list) else [value]
    if len(words) == 1 and words[0] in RANGE_RULES:
        return words[0]
    try:
        low, high = (float(word) for word in words)
    except (TypeError, ValueError):
        low, high = nan, nan
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ValueError(f"value_range is {', '.join(RANGE_RULES)} or [low, high], two numbers, the lower one first")
    return [low, high]


class DefectParameters(StrictModel):
    """The defects that are drawn on test textures."""

    kinds: list[DefectKind] = Field(["scratch", "stain", "hole", "paste", "blur"], min_length=1, description="in order")
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

    seed: int = Field(
        0, ge=0, description="of crops and defects; apart from the run's seed, so that data stay the same"
    )
    train_images: int = Field(120, ge=1, description="crops for training")
    validation_images: int = Field(30, ge=1, description="held-out normal crops")
    test_normal: int = Field(30, ge=0, description="normal crops in the test part")
    test_per_defect: int = Field(12, ge=0, description="defective crops of each kind in the test part")
    defects: DefectParameters = Field(default_factory=DefectParameters, description="how defects look")

    @model_validator(mode="after")
    def _some_test_image(self) -> "TextureParameters":
        if self.test_normal == 0 and self.test_per_defect == 0:
            raise ValueError("test_normal and test_per_defect are both 0: there would be nothing to score")
        return self


class DatasetParameters(StrictModel):
    """The ``dataset:`` block."""

    name: Literal["textures", "digits", "mnist", "fashion_mnist", "cifar10", "folder"] = Field(
        description="the image set"
    )
    category: str | None = Field(None, description="textures: brick, grass, gravel; folder: a folder in root, or null")
    normal_class: int | None = Field(None, description="digits, mnist, fashion_mnist, cifar10: the normal class, 0..9")
    root: str | None = Field(None, description="folder, mnist, fashion_mnist, cifar10: the folder with the files")
    download: bool = Field(True, description="mnist, fashion_mnist, cifar10 without root: download to data/01_raw")
    image_size: int | list[int] = Field(
        description="pixels that images are resized to (textures: cropped), a number or [height, width]"
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of normal training images held out, where the set holds out none itself"
    )
    fit: Literal["resize", "letterbox", "centre_crop"] = Field(
        "resize", description="folder: how images come to image_size: stretched, filled up with their border, or cut"
    )
    value_range: Literal["auto", "type", "data"] | list[float] = Field(
        "auto",
        description="folder: what becomes 0 and 1: 8 bits as they are and of wider types what training images use "
        "(auto), each type's limits, what training images use in any case (data), or [low, high]",
    )
    duplicates: Literal["warn", "refuse"] = Field(
        "warn", description="what is done about images that are in two parts, or normal and anomalous"
    )
    textures: TextureParameters = Field(default_factory=TextureParameters, description="settings of the set textures")

    _sides = field_validator("image_size", mode="before")(check_sides)

    _limits = field_validator("value_range", mode="before")(check_value_range)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.image_size[0], self.image_size[1]

    @property
    def category_name(self) -> str:
        """The category, fit to name a folder: the category, ``class_8``, or the last name of `root`."""
        if self.name in CLASS_SETS:
            return f"class_{self.normal_class}"
        return self.category or Path(self.root).expanduser().resolve().name or "root"

    @model_validator(mode="after")
    def _fields_belong_to_name(self) -> "DatasetParameters":
        if self.name == "textures":
            self._check_texture()
        elif self.name == "folder":
            self._check_folder()
        else:
            self._check_class()
        if self.name != "folder":
            self._check_alike()
        return self

    def _check_alike(self) -> None:
        for field in ("fit", "value_range"):
            default = type(self).model_fields[field].default
            if getattr(self, field) != default:
                raise ValueError(
                    f"{field} does not go with {self.name}, whose images are all of one kind; set {field}: {default}"
                )

    def _check_texture(self) -> None:
        if self.category is None:
            raise ValueError(f"textures needs a category; known: {', '.join(TEXTURES)}")
        if self.category not in TEXTURES:
            raise ValueError(f"unknown category '{self.category}'{nearest_name(self.category, list(TEXTURES))}")
        self._leave_out("normal_class", "root")

    def _check_folder(self) -> None:
        if not self.root:
            raise ValueError("folder needs root, the folder with the images")
        # The category becomes a folder's name under data/, and must not lead out of it.
        if self.category is not None and (self.category in ("", ".", "..") or set(self.category) & set("/\\:\0")):
            raise ValueError(
                f"category '{self.category}' must be the name of one folder in root, without slashes or '..'"
            )
        self._leave_out("normal_class")

    def _check_class(self) -> None:
        if self.normal_class is None:
            raise ValueError(f"{self.name} needs normal_class; the classes are 0..9")
        if not 0 <= self.normal_class <= 9:
            raise ValueError(f"unknown class {self.normal_class}; the classes are 0..9")
        self._leave_out("category", *(["root"] if self.name == "digits" else []))

    def _leave_out(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} does not go with {self.name}; set {name}: null")
