"""A detector's folder: one readable JSON, weights as safetensors, nothing else needed to predict an image."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, PositiveInt, PrivateAttr, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from kdad.detectors.predictor import TiledThreshold
from kdad.errors import InputError
from kdad.images.files.fitting import Alignment, Fit, Preparation, Region
from kdad.images.files.value_range import ValueRange
from kdad.parameters.strict import StrictModel
from kdad.scoring.threshold import Calibration, PixelThreshold, Threshold
from kdad.storage.content_store import sha256_of
from kdad.storage.replacing import is_taken, put_back, replacing

FORMAT = 1
FACTS = "detector.json"
_LEARNT = "learnt.safetensors"
#: What earlier versions called some facts, at any depth.
_FORMER = {"held_out_scores": "validation_scores", "map_limits": "colour_limits"}
_RESIZED = {
    "resize": "bilinear, antialiased; the aspect ratio is not kept",
    "letterbox": "bilinear, antialiased; the aspect ratio is kept, the rest is filled with the border's pixels",
    "centre_crop": "bilinear, antialiased; the aspect ratio is kept, what stands over at two sides is cut off",
}


class ImageFacts(StrictModel):
    """The images that a detector takes, and how a file becomes one."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="height and width in pixels")
    resize: str = _RESIZED["resize"]
    form: str = "RGB in [0, 1]; grey as three equal channels, transparency over white, upright as EXIF says"
    fit: Fit = Field("resize", description="how other sizes come to this one")
    values: ValueRange | None = Field(None, description="what of a file becomes 0 and 1; null: its type's limits")
    bands: tuple[int, ...] | None = Field(None, description="of files with more than three, those that are taken")
    region: Region | None = Field(None, description="the pixels that count, of images of its size alone; null: all")
    alignment: Alignment | None = Field(None, description="what each image is turned to first; null: none is")
    in_tiles: bool = Field(False, description="whether these are tiles, and the region is of what they are parts of")

    @classmethod
    def describe(cls, size: tuple[int, int], preparation: Preparation) -> "ImageFacts":
        """Return the facts of images of a `size` that are made in this way."""
        known = {field.name: getattr(preparation, field.name) for field in fields(Preparation)}
        return cls(size=size, resize=_RESIZED[preparation.fit], **known)

    @property
    def preparation(self) -> Preparation:
        """How files become such images."""
        return Preparation(**{field.name: getattr(self, field.name) for field in fields(Preparation)})


class DetectorFacts(StrictModel):
    """What ``detector.json`` holds."""

    model_config = ConfigDict(allow_inf_nan=True)  # what was measured, and no parameter

    format: int = Field(description="of this folder; another is not read")
    system: str
    package: str = Field(description="version of the package that wrote it")
    settings: dict[str, Any] = Field(description="the parameter blocks that made it")
    image: ImageFacts
    precision: str = Field(description="of convolutions: float32 or bfloat16")
    frozen: dict[str, dict[str, Any]] = Field(description="the frozen networks by name")
    learnt: dict[str, Any] = Field(description="what was learnt besides tensors: scales, constants")
    learnt_sha256: str = Field("", description="of learnt.safetensors")
    key: str = Field(description="of the learnt half: everything that it depends on")
    threshold: Threshold | None
    validation_scores: list[float] = Field(description="of normal validation images, ascending")
    pixel_threshold: PixelThreshold | None = Field(None, description="of maps, by which regions are marked")
    in_float32: Calibration | None = Field(
        None, description="of a detector in bfloat16: its threshold where the machine does not multiply that"
    )
    by_category: dict[str, Calibration] = Field(
        {}, description="thresholds of each category that it has learnt, if several"
    )
    colour_limits: tuple[float, float] | None = Field(None, description="values that a heat map's colours run between")
    tiled: list[TiledThreshold] = Field([], description="thresholds of images that are predicted by tiles")
    made_by: dict[str, Any] = Field(description="data, seed, commit, date and metrics")
    sha256: str = Field("", description="of all else in this file; empty in one that an older version wrote")
    _found: str = PrivateAttr("")

    @property
    def digest(self) -> str:
        """The SHA-256 of what the file was found to say; with it, of all weights, whose hashes it holds."""
        return self._found


def write_folder(folder: Path, state: dict[str, Tensor], describe: Callable[[Path], DetectorFacts]) -> Path:
    """Write the learnt tensors and what `describe` says of them, and of the folder being filled; all or nothing.

    A detector that is there already is replaced; raises `InputError` when the folder holds anything else.
    """
    if is_taken(folder, FACTS):
        raise InputError(f"'{folder}' is there already and is no detector; give a new folder, or remove it first")
    with replacing(folder) as partial:
        save_file(state, partial / _LEARNT)
        facts = describe(partial).model_copy(update={"learnt_sha256": sha256_of(partial / _LEARNT)})
        content = json.loads(json.dumps(facts.model_dump(mode="json")))
        (partial / FACTS).write_text(json.dumps(content | {"sha256": _digest(content)}, indent=1))
        (partial / _LEARNT).chmod(0o644)  # as any file: safetensors makes it its owner's alone
    return folder


def read_facts(folder: Path) -> DetectorFacts:
    """Read ``detector.json``; raises `InputError` when it is missing, of another format, or not as it was written."""
    put_back(folder)
    path = folder / FACTS
    if not path.is_file():
        raise InputError(f"'{folder}' is no detector: it has no {FACTS}; give the folder that a pipeline has left")
    try:
        text = path.read_text(encoding="utf-8")  # once: what is checked is what is used
        content = json.loads(text, object_hook=_by_names_of_today)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}); take an undamaged copy of the detector") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(
            f"'{path}' is a detector of format {found}, and this version of kdad reads format {FORMAT}; train it "
            "again, or use the version of kdad that made it"
        )
    try:
        facts = DetectorFacts.model_validate(content)
    except ValidationError as error:
        raise changed_by_hand(folder, error) from error
    facts._found = _digest(json.loads(text))
    return facts


def read_state(folder: Path, facts: DetectorFacts) -> dict[str, Tensor]:
    """Read the learnt tensors into memory; raises `InputError` when they are missing, or not those of `facts`.

    Nothing is memory-mapped: a file that is overwritten later changes no tensor.
    """
    path = folder / _LEARNT
    if not path.is_file():
        raise InputError(f"'{folder}' is incomplete: it has no {_LEARNT}; take a complete copy of the detector")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error}); take another copy of the detector") from error
    if hashlib.sha256(content).hexdigest() != facts.learnt_sha256:
        raise InputError(f"'{path}' is not the file that {FACTS} was written with: its hash differs; take another copy")
    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(f"'{path}' cannot be read ({error}); take another copy of the detector") from error


def check_unchanged(folder: Path, facts: DetectorFacts) -> None:
    """Raise `InputError` when ``detector.json`` said anything else than what was written, though it could be read."""
    if facts.sha256 not in ("", facts.digest):
        raise InputError(
            f"'{folder / FACTS}' was changed since it was written: its SHA-256 is another; take an undamaged copy, or "
            "make the change with a pipeline (`calibration` sets another threshold)"
        )


def changed_by_hand(folder: Path, error: Exception) -> InputError:
    """Return the error that says what of ``detector.json`` does not fit."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        what = ": ".join(
            filter(None, (".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")))
        )
    else:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    return InputError(f"'{folder / FACTS}' is not as it was written: {what}; take an undamaged copy")


def _by_names_of_today(facts: dict[str, Any]) -> dict[str, Any]:
    return {_FORMER.get(name, name): value for name, value in facts.items()}


def _digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of what a file says beside its own; order and layout do not count."""
    said = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
