"""What an image set was understood to be, said before anything is trained on it; unusable ones are refused."""

from dataclasses import dataclass
from typing import get_args

import pandas as pd

from kdad.errors import InputError
from kdad.images.image_set import ImageSet, Subset

_SHOWN = 20


def check_images(images: ImageSet) -> None:
    """Raise one `InputError` that lists all problems of an image set, the first 20 in full."""
    problems = images.problems()
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = [f"the image set {images.name} / {images.category} cannot be used:", *problems[:_SHOWN], *more]
        raise InputError("\n  ".join(lines))


Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class DatasetSummary:
    """Images by part and kind (columns part, kind, label, images, masks), and what else was understood, in words."""

    title: str
    table: pd.DataFrame
    remarks: Facts

    def facts(self) -> Facts:
        """Return everything in lines: each part with its kinds, then the remarks."""
        said = []
        for part, rows in self.table.groupby("part", sort=False):
            kinds = ", ".join(
                f"{row.images} {row.kind}" + (f" ({row.masks} with masks)" if row.label and row.masks else "")
                for row in rows.itertuples()
            )
            said.append((part, f"{rows['images'].sum()} images: {kinds}"))
        return [*said, *self.remarks]


def summarise_set(images: ImageSet) -> DatasetSummary:
    """Count a set's images by part and kind, and gather what it says of itself."""
    samples = pd.DataFrame(
        [(sample.subset, sample.kind, sample.label, sample.has_mask) for sample in images.samples],
        columns=["part", "kind", "label", "masks"],
    )
    samples["part"] = pd.Categorical(samples["part"], get_args(Subset))
    samples = samples.sort_values("part", kind="stable").astype({"part": str})
    counted = samples.groupby(["part", "kind", "label"], sort=False)["masks"].agg(["size", "sum"]).reset_index()
    table = counted.rename(columns={"size": "images", "sum": "masks"})
    return DatasetSummary(f"Understood of {images.name} / {images.category}", table, images.remarks())
