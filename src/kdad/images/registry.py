"""From parameters to the image set that they name, or the set of several categories."""

from bisect import bisect_right
from dataclasses import replace
from functools import partial
from itertools import accumulate

import numpy as np

from kdad.errors import InputError
from kdad.images.drawn import ContaminatedSet, TextureSet
from kdad.images.files.fitting import Preparation
from kdad.images.folder import FolderSet
from kdad.images.image_set import ForwardingSet, ImageSet, PreparedSet
from kdad.images.layouts.lists import every_category
from kdad.images.published import CifarSet, DigitSet, ElpvSet, IdxSet
from kdad.images.tiling import TiledSet
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore


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
        return self._ask("own_pixels", index)

    def fingerprint(self, index: int) -> str:
        return self._ask("fingerprint", index)

    def problems(self) -> list[str]:
        named = zip(self._names, self._members, strict=True)
        return [f"{name}: {problem}" for name, member in named for problem in member.problems()]

    def remarks(self) -> list[tuple[str, str]]:
        named = zip(self._names, self._members, strict=True)
        return [(f"{title} of {name}", said) for name, member in named for title, said in member.remarks()]


def open_image_set(parameters: DatasetParameters, seed: int = 0, store: ContentStore | None = None) -> ImageSet:
    """Open the image set that `parameters` name; raises `InputError` when there is none to open.

    `seed` is the run's: the range of wide pixel values is that of the images that train, and of none that is held out.
    With a `store` files are decoded once, by whichever run or step asks first.
    """
    if parameters.is_united:
        members = [open_image_set(member, seed, store) for member in member_datasets(parameters)]
        united = UnitedSet(members, parameters)
        united.root = parameters.origin
        return united
    sets = {
        "textures": TextureSet,
        "digits": DigitSet,
        "folder": partial(FolderSet, seed=seed),
        "csv": partial(FolderSet, seed=seed),
        "elpv": ElpvSet,
        "mnist": IdxSet,
        "fashion_mnist": IdxSet,
        "cifar10": CifarSet,
    }
    images = sets[parameters.name](parameters)
    if parameters.tiles is not None:
        images = TiledSet(images, parameters.tiles)
    if store is not None and images.is_slow:
        images = PreparedSet(images, store)
    if parameters.contamination:
        images = ContaminatedSet(images, parameters, seed)
    images.root = parameters.origin
    return images
