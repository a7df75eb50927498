"""Real-IAD's lists: a JSON file a category, with the images of its training and test part."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdad.errors import InputError
from kdad.images.layouts.listed import Row
from kdad.images.layouts.names import NORMAL
from kdad.parameters.strict import first_message


class _Meta(BaseModel):
    model_config = ConfigDict(extra="ignore")
    normal_class: str


class _Image(BaseModel):
    model_config = ConfigDict(extra="ignore")
    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class _List(BaseModel):
    model_config = ConfigDict(extra="ignore")
    meta: _Meta
    train: list[_Image] = Field(min_length=1)
    test: list[_Image]

    def rows(self, file: Path) -> list[Row]:
        """Return the rows of both parts."""
        parts: tuple[Literal["train", "test"], ...] = ("train", "test")
        return [
            Row(
                f"{file}, {part} {number}",
                image.image_path,
                NORMAL if image.anomaly_class == self.meta.normal_class else image.anomaly_class,
                image.mask_path or "",
                part,
            )
            for part in parts
            for number, image in enumerate(getattr(self, part))
        ]


def find_json(base: Path) -> Path | None:
    """Return the list of the category in `base`: of its name, in a folder ``realiad_jsons``, in it, or beside it.

    In and beside it a file of that name is one only when it speaks of training and test images.
    """
    name = f"{base.name}.json"
    folders = [found for place in (base.parent, base.parent.parent) for found in sorted(place.glob("realiad_jsons*"))]
    folders += [inner for found in folders for inner in sorted(found.glob("realiad_jsons*"))]
    own = [folder / name for folder in folders if (folder / name).is_file()]
    other = (file for file in (base / name, base.parent / name) if file.is_file() and _is_list(file))
    return next(iter(own), None) or next(other, None)


def _is_list(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= {"meta", "train", "test"}


def read_json(file: Path) -> list[Row]:
    """Return the rows of a list; raises `InputError` when it is none."""
    try:
        return _List.model_validate(json.loads(file.read_text(encoding="utf-8"))).rows(file)
    except ValidationError as error:
        raise InputError(f"{file}: is no list of Real-IAD ({first_message(error)}); fetch it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}); fetch it again") from error
