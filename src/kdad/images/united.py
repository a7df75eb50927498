"""Several categories as one image set: what one detector for all of them learns from."""

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.files.fitting import Preparation
from kdad.images.image_set import ForwardingSet, ImageSet, Keep
from kdad.images.layouts.layout import list_categories
from kdad.images.layouts.lists import list_csv_categories
from kdad.parameters.dataset import CELLS, TEXTURES, DatasetParameters


def every_category(name: str, root: str | None) -> list[str]:
    """List what ``all`` means: every texture, type of cell, or category below `root`; empty where there is none."""
    if name in ("textures", "elpv"):
        return list(TEXTURES if name == "textures" else CELLS)
    place = Path(root or "").expanduser()
    return list_csv_categories(place) if name == "csv" else list_categories(place)


def member_datasets(parameters: DatasetParameters) -> list[DatasetParameters]:
    """Return the data set of each category of one that unites several; raises `InputError` for fewer than two."""
    named = parameters.category
    names = named if isinstance(named, list) else every_category(parameters.name, parameters.root)
    if len(names) < 2:
        raise InputError(
            f"dataset.category=all, and '{parameters.root}' has {len(names)} categories; one detector for several "
            "takes two or more, so give the category's name"
        )
    return [parameters.model_copy(update={"category": name}) for name in names]


class UnitedSet(ForwardingSet):
    """The images of several sets, one set after another; an id is the category's name, a slash, and the id there.

    Raises `InputError` where the sets' values become 0 and 1 in different ways, as one detector prepares all images
    alike.
    """

    def __init__(self, members: list[ImageSet], parameters: DatasetParameters) -> None:
        self._members, self._names = members, [one.plain_name for one in member_datasets(parameters)]
        self.name, self.category, self.size = parameters.name, parameters.category_name, members[0].size
        self.samples = [
            replace(
                sample,
                id=f"{name}/{sample.id}",
                group=None if sample.group is None else f"{name}/{sample.group}",
            )
            for name, member in zip(self._names, members, strict=True)
            for sample in member.samples
        ]
        self._ends = list(accumulate(len(member.samples) for member in members))

    @property
    def most_readers(self) -> int:
        return min(member.most_readers for member in self._members)

    def _at(self, index: int) -> tuple[ImageSet, int]:
        number = bisect_right(self._ends, index)
        return self._members[number], index - (self._ends[number - 1] if number else 0)

    @property
    def preparation(self) -> Preparation:
        found = {name: member.preparation for name, member in zip(self._names, self._members, strict=True)}
        first, *others = found.items()
        for name, preparation in others:
            if preparation != first[1]:
                raise InputError(
                    f"values of '{first[0]}' become 0 and 1 by {first[1].values}, those of '{name}' by "
                    f"{preparation.values}; give dataset.value_range=[low,high], so that one detector reads all alike"
                )
        return first[1]

    def own_pixels(self, index: int) -> np.ndarray:
        member, row = self._at(index)
        return member.own_pixels(row)

    def fingerprint(self, index: int) -> str:
        member, row = self._at(index)
        return member.fingerprint(row)

    def problems(self, keep: Keep | None = None) -> list[str]:
        starts = [0, *self._ends[:-1]]
        return [
            f"{name}: {problem}"
            for name, member, start in zip(self._names, self._members, starts, strict=True)
            for problem in member.problems(_shifted(keep, start))
        ]

    def remarks(self) -> list[tuple[str, str]]:
        named = zip(self._names, self._members, strict=True)
        return [(f"{title} of {name}", said) for name, member in named for title, said in member.remarks()]


def _shifted(keep: Keep | None, start: int) -> Keep | None:
    """Return `keep` for the rows of a set that begins at `start`."""
    if keep is None:
        return None
    return lambda row, *made: keep(row + start, *made)
