"""Which normal images train and which are held out."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdad.errors import InputError
from kdad.images.image_set import ImageSet, Sample, Subset, hash_content
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import derive_seed

if TYPE_CHECKING:
    import pandas as pd

#: In the name of a tile, between that of its image and where it lies.
_MARK = "#tile="

#: What each part of a split is called where a person reads it.
PARTS: dict[Subset | Literal["unused"], str] = {
    "train": "training",
    "validation": "validation",
    "test": "test",
    "unused": "unused training",
}
#: The highest of so many validation scores is exceeded by one new normal image of twenty.
_PROMISED = 19


@dataclass(frozen=True)
class Split:
    """The split table of an image set: a row an image, in the set's order (id, label, kind, split, has_mask, ...)."""

    table: "pd.DataFrame"

    def __len__(self) -> int:
        return len(self.table)

    def is_part(self, part: Subset | Literal["unused"]) -> np.ndarray:
        """Return for each image whether it is of this part."""
        return (self.table["split"] == part).to_numpy()

    @property
    def with_all_training(self) -> "Split":
        """The same with every unused training image in training."""
        return Split(self.table.assign(split=self.table["split"].replace("unused", "train")))

    def rows(self, part: Subset | Literal["unused"]) -> np.ndarray:
        """Return the rows of a part, in the image set's order."""
        return np.flatnonzero(self.is_part(part))

    def name(self, row: int) -> str:
        """Return the id of the image of a row."""
        return str(self.table["id"].iloc[row])

    @property
    def scored(self) -> np.ndarray:
        """The rows that are scored: normal validation images, then test images."""
        return np.concatenate([self.rows("validation"), self.rows("test")])

    @property
    def members(self) -> list[str]:
        """The categories of a united set; empty for any other."""
        return list(self.table["member"].unique()) if "member" in self.table else []

    def training_of(self, member: str) -> "Split":
        """Return the same with the training images of one category of a united set alone."""
        others = (self.table["member"] != member) & self.is_part("train")
        return Split(self.table.assign(split=self.table["split"].mask(others, "unused")))

    def of_member(self, member: str) -> "Split":
        """Return the same with one category of a united set held out and tested alone; those of all train."""
        others = (self.table["member"] != member) & (self.table["split"] != "train")
        return Split(self.table.assign(split=self.table["split"].mask(others, "unused")).drop(columns="member"))

    @property
    def test_table(self) -> "pd.DataFrame":
        """The rows of the test images."""
        return self.table.iloc[self.rows("test")]

    @property
    def images_digest(self) -> str:
        """A hash of which images these are, and of their content."""
        return _digest(self.table["id"], self.table["fingerprint"])

    @property
    def test_digest(self) -> str:
        """A hash of which images test, of their content and labels: figures of equal ones can be compared."""
        test = self.test_table
        return _digest(test["id"], test["fingerprint"], test["label"])

    @property
    def training_digest(self) -> str:
        """A hash of which images train."""
        return _digest(self.table.loc[self.is_part("train"), "id"])

    @property
    def digest(self) -> str:
        """A hash of the whole table: images, labels and parts."""
        return hash_content(self.table.to_csv().encode())

    def test_maps(self, stack: np.ndarray) -> np.ndarray:
        """Return the test images' part of a stack `(N, ...)`; validation images, where they are in it, come first."""
        return stack[len(stack) - int(self.is_part("test").sum()) :]

    def require_normal(self) -> None:
        """Raise `InputError` when no normal image trains or is held out."""
        for part, use in (("train", "learn from"), ("validation", "set the threshold with")):
            if not self.is_part(part).any():
                raise InputError(
                    f"the split has no {part} image to {use}; add normal images or raise validation_fraction"
                )


def validation_count(images: int, fraction: float | Literal["auto"]) -> int:
    """Return how many of `images` (two or more) normal training images are held out; at least one is on either side.

    ``auto`` holds out a tenth; where that is fewer than the 19 that a false positive rate of 5 % takes, it holds out
    19, but at most half.
    """
    wanted = max(0.1 * images, min(_PROMISED, images // 2)) if fraction == "auto" else fraction * images
    return min(max(round(wanted), 1), images - 1)


def split_samples(
    samples: list[Sample], validation_fraction: float | Literal["auto"], seed: int, max_train: int | None = None
) -> list[str]:
    """Return "train", "validation", "test" or "unused" for each sample.

    A set with a validation part of its own keeps it. Otherwise `validation_count` of the training images are held out:
    those whose id and seed hash lowest, whatever the order of `samples`; tiles of one image, and images of one group,
    stay together and count as one. Of the others `max_train` train, those that hash lowest, and the rest is unused:
    what is held out is the same for every `max_train`, and more images contain fewer. Raises `InputError` when fewer
    than one image would be left on either side.
    """
    split: list[str] = [sample.subset for sample in samples]
    training = [position for position, subset in enumerate(split) if subset == "train"]
    has_validation = "validation" in split
    if has_validation and not training:
        raise InputError("there are no normal training images; add some")
    grouped = any(samples[position].group for position in training)
    names: dict[str, list[int]] = {}
    for position in training:
        names.setdefault(whole_name(samples[position].group or samples[position].id), []).append(position)
    if not has_validation and len(names) < 2:
        what = "groups of normal training images (dataset.groups)" if grouped else "normal training images"
        raise InputError(f"there are {len(names)} {what}; at least 2 are needed, one to hold out")
    held_out = 0 if has_validation else validation_count(len(names), validation_fraction)
    ordered = sorted(names, key=lambda name: (derive_seed(seed, "split", name), name))
    last = len(ordered) if max_train is None else held_out + max_train
    for part, chosen in (("validation", ordered[:held_out]), ("unused", ordered[last:])):
        for name in chosen:
            for position in names[name]:
                split[position] = part
    return split


def split_set(samples: list[Sample], dataset: DatasetParameters, seed: int) -> list[str]:
    """Return what `split_samples` does, by a dataset block; each category of a united set is split as if alone."""
    given = dataset.validation_fraction, seed, dataset.max_train_images
    if not dataset.is_united:
        return split_samples(samples, *given)
    split = [""] * len(samples)
    members = member_of([sample.id for sample in samples])
    for member in dict.fromkeys(members):
        rows = [row for row, name in enumerate(members) if name == member]
        alone = [
            replace(one, id=one.id.removeprefix(f"{member}/"), group=one.group and one.group.removeprefix(f"{member}/"))
            for one in map(samples.__getitem__, rows)
        ]
        for row, part in zip(rows, split_samples(alone, *given), strict=True):
            split[row] = part
    return split


def member_of(names: Iterable[str]) -> list[str]:
    """Return the category that each image of a united set is of, by its id."""
    return [name.partition("/")[0] for name in names]


def tile_name(name: str, top: int, left: int) -> str:
    """Return the name of a tile of the image with this name, by where it begins: ``a.png#tile=0,192``."""
    return f"{name}{_MARK}{top},{left}"


def whole_name(name: str) -> str:
    """Return the name of the image that a tile is of; that of a whole image as it is."""
    return name.partition(_MARK)[0]


def table_of(images: ImageSet, parts: Sequence[str], is_united: bool = False) -> "pd.DataFrame":
    """Return the split table of an image set whose samples are of these parts."""
    import pandas as pd  # late: predicting takes none

    fingerprints = [images.fingerprint(row) for row in range(len(images.samples))]
    table = pd.DataFrame(map(asdict, images.samples)).assign(split=list(parts), fingerprint=fingerprints)
    return split_columns(table, is_united)


def split_columns(table: "pd.DataFrame", is_united: bool) -> "pd.DataFrame":
    """Return the columns of a split table, with ``member``, the category, for images of a united set.

    Images of groups have theirs in ``group``.
    """
    grouped = ["group"] if "group" in table and table["group"].notna().any() else []
    table = table[["id", "label", "kind", "split", "has_mask", "fingerprint", *grouped]]
    return table.assign(member=member_of(table["id"])) if is_united else table


def rows_by_category(table: "pd.DataFrame") -> list[np.ndarray]:
    """Return the row numbers in a split table's index: those of each category of a united set, or all together."""
    groups = table.groupby("member").groups.values() if "member" in table else [table.index]
    return [rows.to_numpy() for rows in groups]


def _digest(*columns: "pd.Series") -> str:
    return hash_content(b"".join("\n".join(column.astype(str)).encode() for column in columns))
