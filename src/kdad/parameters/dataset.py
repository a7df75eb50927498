"""The ``dataset:`` block: which images, at what size, how they are understood, and how the default set is made."""

import re
from hashlib import sha256
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kdad.parameters.strict import StrictModel, nearest_name
from kdad.parameters.written_names import folder_name

DefectKind = Literal["scratch", "stain", "hole", "paste", "blur"]

TEXTURES = ("brick", "grass", "gravel")
_LONGEST_NAME = 80  # of a folder
#: Labelled sets, of which one class is normal.
CLASS_SETS = ("digits", "mnist", "fashion_mnist", "cifar10")
#: Sets that come with the package, or a library of it, and have no root.
EMBEDDED = ("textures", "digits", "elpv")
#: Types of solar cells in the set `elpv`.
CELLS = ("mono", "poly")
_OF_FILES = ("category", "root", "fit", "value_range", "bands", "tiles", "groups", "region", "align")
#: Fields that only some sets have, and which.
_OF_SOME_SETS = ("normal_class", *_OF_FILES)
_TAKES = {
    "folder": _OF_FILES,
    "csv": _OF_FILES,
    "textures": ("category",),
    "elpv": ("category",),
    "digits": ("normal_class",),
    **dict.fromkeys(("mnist", "fashion_mnist", "cifar10"), ("normal_class", "root")),
}
#: What the limits of values are taken from, where they are not given.
RANGE_RULES = ("auto", "type", "data")


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
    ignore: list[str] = Field(
        [], description="files and folders that are left out, by name or path from the set's folder; * is anything"
    )
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


def tiles_suffix(size: int | None, overlap: int | None) -> str:
    """Return what tiles add to the name of a folder of their results, such as ``_tiles_256_64``."""
    return "_".join(["_tiles", *(str(value) for value in (size, overlap) if value is not None)])


class TileParameters(StrictModel):
    """Overlapping parts of an image that are predicted, or learnt from, one by one."""

    size: int | None = Field(
        None, ge=8, description="longer side in the image's own pixels; null: the detector's size, nothing is resized"
    )
    overlap: int | None = Field(None, ge=0, description="pixels that neighbours share at least; null: a quarter")

    @model_validator(mode="after")
    def _half_at_most(self) -> "TileParameters":
        if self.size is not None and self.overlap is not None and 2 * self.overlap > self.size:
            raise ValueError(
                f"overlap {self.overlap} is more than half of size {self.size}; neighbours share half of a tile at most"
            )
        return self


def is_pattern(groups: str) -> bool:
    """Tell whether groups are told by a pattern of names, which has the group's name in parentheses."""
    return "(" in groups


def check_groups(groups: str | None) -> str | None:
    """Return what tells groups; raises `ValueError` for a pattern that cannot be used."""
    if groups is None or not is_pattern(groups):
        return groups
    try:
        parts = re.compile(groups).groups
    except re.error as error:
        raise ValueError(f"groups '{groups}' is no regular expression ({error}); correct it") from None
    if parts != 1:
        raise ValueError(f"groups '{groups}' has {parts} parts in parentheses; put the one group's name in them")
    return groups


def check_groups_of_files(groups: str | None) -> str | None:
    """Return what tells groups by folders or names; raises `ValueError` for anything else, as a column of a list."""
    if groups not in (None, "folder") and not is_pattern(groups):
        raise ValueError(
            f"groups '{groups}' is neither folder nor a pattern with the group's name in parentheses, such as "
            "(film[0-9]+)_; a column is of a list (csv)"
        )
    return check_groups(groups)


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


class DatasetParameters(StrictModel):
    """The ``dataset:`` block."""

    name: Literal["textures", "digits", "mnist", "fashion_mnist", "cifar10", "folder", "csv", "elpv"] = Field(
        description="the image set"
    )
    category: str | list[str] | None = Field(
        None,
        description="textures: brick, grass, gravel; folder: in root, or null; csv: of its column; elpv: mono, poly; "
        "all, or a list: one detector for these",
    )
    normal_class: int | None = Field(None, description="digits, mnist, fashion_mnist, cifar10: the normal class, 0..9")
    root: str | None = Field(
        None,
        description="folder, mnist, fashion_mnist, cifar10: the folder with the files; csv: the file that lists them",
    )
    download: bool = Field(True, description="mnist, fashion_mnist, cifar10 without root: download to data/01_raw")
    image_size: int | list[int] = Field(
        description="pixels that images are resized to (textures: cropped): a number, or [height, width]"
    )
    validation_fraction: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "auto",
        description="of normal images, where a set has no validation part; auto: a tenth, or 19 where those are more, "
        "at most half",
    )
    fit: Literal["resize", "letterbox", "centre_crop"] = Field(
        "resize", description="folder, csv: resize (stretched), letterbox (filled with the border) or centre_crop (cut)"
    )
    tiles: TileParameters | None = Field(
        None,
        description="folder, csv: {size, overlap}: learnt from, and tested, as tiles (docs/how_to/large_images.md); "
        "null: as a whole",
    )
    value_range: Literal["auto", "type", "data"] | list[float] = Field(
        "auto",
        description="folder, csv: what becomes 0 and 1: auto (8 bits as they are, others as data), type, data (what "
        "training images use) or [low, high]",
    )
    max_train_images: int | None = Field(
        None, ge=1, description="so many of the training images train, those whose names hash lowest; null: all of them"
    )
    bands: list[int] | None = Field(
        None, description="folder, csv: one band, or three, of files with more, from 0; null: files have 1 or 3"
    )
    region: str | list[list[float]] | None = Field(
        None,
        description="folder, csv: the pixels that count of all images: a mask file of their size, white where they do, "
        "a JSON of outlines (LabelMe), or points [[x, y], ...]; null: all",
    )
    align: Literal["none", "rotation"] = Field(
        "none", description="folder, csv: rotation: each image is turned about its middle to lie as training images do"
    )
    groups: str | None = Field(
        None,
        description="folder, csv: which images belong together, as a film's frames, and stay in one part: folder, a "
        "column of the list, or a pattern of names such as (film[0-9]+)_ (docs/reference/data.md); null: none do",
    )
    duplicates: Literal["warn", "refuse"] = Field(
        "warn", description="what is done about images in two parts, or normal and anomalous"
    )
    contamination: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="share of anomalous images put among the training images, to see how far a system falls; below 0.5",
    )
    contamination_by: Literal["drawn", "test"] = Field(
        "drawn", description="drawn: defects on training images; test: anomalous test images, then tested no more"
    )
    textures: TextureParameters = Field(default_factory=TextureParameters, description="of the set textures")
    layout: LayoutParameters = Field(
        default_factory=LayoutParameters,
        description="folder, csv: what names mean that are none of the usual words (docs/reference/data.md)",
    )
    elpv: ElpvParameters = Field(
        default_factory=ElpvParameters,
        description="of the set elpv: cells by their probability of a defect (0, 1/3, 2/3, 1)",
    )

    _sides = field_validator("image_size", mode="before")(check_sides)
    _limits = field_validator("value_range", mode="before")(check_value_range)
    _one_group_in_a_pattern = field_validator("groups")(check_groups)

    @field_validator("bands")
    @classmethod
    def _one_or_three(cls, bands: list[int] | None) -> list[int] | None:
        if bands is not None and (len(bands) not in (1, 3) or min(bands) < 0):
            raise ValueError("bands are one number or three, counted from 0, such as [0] or [0, 1, 3]")
        return bands

    @field_validator("category", mode="before")
    @classmethod
    def _digits_are_a_name(cls, value: Any) -> Any:
        """Take a number for the name of a folder, as YAML and command lines give it."""
        if isinstance(value, list):
            names = [str(name) if type(name) is int else name for name in value]
            # One number comes as a list, as it does for every field that takes a list.
            return names[0] if len(names) == 1 and type(value[0]) is int else names
        return str(value) if type(value) is int else value

    @property
    def is_united(self) -> bool:
        """Whether one detector is to learn several categories: a list of them, or ``all``."""
        return self.category == "all" or isinstance(self.category, list)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.image_size[0], self.image_size[1]

    @property
    def category_name(self) -> str:
        """The category, fit to name a folder: the category, ``class_8``, or the last name of `root`.

        With contamination it is one of its own, such as ``brick_contaminated_5`` (per cent), and so it is with tiles,
        with a part of the training images (``brick_train_8``), and with aligned ones.
        """
        if self.name in CLASS_SETS:
            return f"class_{self.normal_class}"
        name = self.plain_name
        if self.tiles is not None:
            name += tiles_suffix(self.tiles.size, self.tiles.overlap)
        if self.max_train_images is not None:
            name += f"_train_{self.max_train_images}"
        if self.align != "none":
            name += "_aligned"
        if not self.contamination:
            return name
        moved = "_by_test" if self.contamination_by == "test" else ""
        return f"{name}_contaminated_{100 * self.contamination:g}{moved}"

    @property
    def plain_name(self) -> str:
        """The same whatever is made of its images: what a category is called in a detector of several."""
        if self.name == "elpv" and self.category is None:
            return "_and_".join(CELLS)
        if isinstance(self.category, list):
            joined = "_and_".join(map(folder_name, self.category))
            digest = sha256(joined.encode()).hexdigest()[:8]
            return joined if len(joined) <= _LONGEST_NAME else f"{len(self.category)}_categories_{digest}"
        if self.category:
            return folder_name(self.category)
        place = Path(self.root or "").expanduser().resolve()
        return folder_name((place.stem if self.name == "csv" else place.name) or "root")

    @property
    def origin(self) -> str | None:
        """Where the files are, an absolute path, or ``downloaded``; None for an embedded set."""
        if self.name in EMBEDDED:
            return None
        return str(Path(self.root).expanduser().resolve()) if self.root else "downloaded"

    @model_validator(mode="after")
    def _fields_go_together(self) -> "DatasetParameters":
        if self.tiles is not None and self.contamination:
            raise ValueError(
                "contamination is of whole images, and there are tiles; set contamination: 0, or tiles: null"
            )
        if self.region is not None and self.contamination and self.contamination_by == "drawn":
            raise ValueError(
                "drawn defects may lie outside of the region; set contamination: 0, or contamination_by: test"
            )
        if self.align != "none":
            for field, is_given in (("tiles", self.tiles), ("region", self.region)):
                if is_given is not None:
                    raise ValueError(
                        f"align turns whole images, and {field} is of images as they lie; set align: none, or "
                        f"{field}: null"
                    )
            if self.is_united:
                raise ValueError("align turns images of one category alike, and there are several; set align: none")
        if self.groups is not None and self.name == "folder":
            check_groups_of_files(self.groups)
        if self.groups is not None and self.max_train_images is not None:
            raise ValueError("max_train_images counts single images, and there are groups; set max_train_images: null")
        return self

    @model_validator(mode="after")
    def _fields_belong_to_name(self) -> "DatasetParameters":
        self._check_category()
        for field in _OF_SOME_SETS:
            default = type(self).model_fields[field].default
            if field not in _TAKES[self.name] and getattr(self, field) != default:
                wanted = "null" if default is None else default
                raise ValueError(f"{field} does not go with {self.name}; set {field}: {wanted}")
        if self.name in ("folder", "csv") and not self.root:
            what = "folder with the images" if self.name == "folder" else "CSV file that lists the images"
            raise ValueError(f"{self.name} needs root, the {what}")
        if self.name in CLASS_SETS:
            if self.contamination:
                raise ValueError(f"contamination does not go with {self.name}; set contamination: 0")
            if self.max_train_images is not None:
                raise ValueError(f"max_train_images does not go with {self.name}; set max_train_images: null")
            if self.normal_class is None:
                raise ValueError(f"{self.name} needs normal_class; the classes are 0..9")
            if not 0 <= self.normal_class <= 9:
                raise ValueError(f"unknown class {self.normal_class}; the classes are 0..9")
        return self

    def _check_category(self) -> None:
        known = {"textures": TEXTURES, "elpv": CELLS}.get(self.name)
        if isinstance(self.category, list) and len(set(self.category)) < max(len(self.category), 2):
            raise ValueError(f"category {self.category} takes two or more names, each once; for one, give its name")
        if self.category is None and self.name == "textures":
            raise ValueError(f"textures needs a category; known: {', '.join(TEXTURES)}")
        for name in self.category if isinstance(self.category, list) else [self.category]:
            if name is None or name == "all" == self.category:
                continue
            if known is not None and name not in known:
                raise ValueError(f"unknown category '{name}'{nearest_name(name, list(known))}")
            # The category becomes a folder's name under data/, and must not lead out of it.
            if name in ("", ".", "..") or set(name) & set("/\\:\0"):
                raise ValueError(f"category '{name}' must be the name of one folder in root, without slashes or '..'")
