"""What all cases share, and what a detector made of it remembers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdad.compute import Compute
from kdad.content_store import ContentStore, Stores
from kdad.detectors.workshop import Workshop
from kdad.features.seen import SeenImages
from kdad.parameters.scoring import MeasuringParameters
from kdad.provenance import code_version


@dataclass(frozen=True)
class Bench:
    """What all cases share: the machine, the stores of finished work, and how everything is measured.

    With `shares_classes` the classes of a labelled set share what frozen networks gave. `split_seed` is the run's.
    """

    compute: Compute
    stores: Stores
    measuring: MeasuringParameters
    sheet_rows: int
    split_seed: int
    shares_classes: bool = False

    def workshop(self, seed: int) -> Workshop:
        """Return where a detector of this seed is made."""
        return Workshop(self.compute, seed, ContentStore(self.stores.models), self.split_seed)


def record_of(seen: SeenImages, seed: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what a detector remembers of how it was made: data, seed, commit, date and metrics."""
    return {
        "dataset": seen.images.name,
        "category": seen.images.category,
        "root": seen.images.root,
        "training_images": len(seen.split.rows("train")),
        "held_out_images": len(seen.split.rows("validation")),
        "images": seen.split.images_digest,
        "seed": seed,
        "commit": code_version(Path.cwd()),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": metrics,
    }
