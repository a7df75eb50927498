"""What all cases share, and what they see of the images through it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdad.compute import Compute
from kdad.content_store import ContentStore, Stores
from kdad.detectors.detector import Detector
from kdad.detectors.workshop import Workshop
from kdad.features.cache import FeatureCache
from kdad.features.network import FrozenNetwork, FrozenReference
from kdad.features.seen import SeenImages, obtain_class_features, obtain_features
from kdad.parameters.scoring import MeasuringParameters
from kdad.parameters.strict import StrictModel
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


def see(
    detector: type[Detector],
    settings: StrictModel,
    seen: SeenImages,
    references: dict[str, FrozenReference],
    bench: Bench,
) -> SeenImages:
    """Return the images with what the frozen networks give for them, computed or found.

    What `seen` has already is taken where it is of the same networks.
    """
    obtain = obtain_class_features if bench.shares_classes else obtain_features
    passage = detector.passage(settings, seen.images.size)
    features: dict[str, FeatureCache] = {}
    for name, reference in references.items():
        known = seen.features.get(name)
        if known is not None and known.manifest["network"] == reference.identity:
            features[name] = known
            continue
        network = FrozenNetwork(reference, bench.compute)
        features[name] = obtain(ContentStore(bench.stores.features), network, seen.images, seen.split, passage)
    return replace(seen, features=features)


def record_of(seen: SeenImages, seed: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what a detector remembers of how it was made: data, seed, commit, date and metrics."""
    return {
        "dataset": seen.images.name,
        "category": seen.images.category,
        "training_images": len(seen.split.rows("train")),
        "held_out_images": len(seen.split.rows("validation")),
        "images": seen.split.images_digest,
        "seed": seed,
        "commit": code_version(Path.cwd()),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": metrics,
    }
