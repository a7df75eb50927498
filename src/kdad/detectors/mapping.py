"""What a detector says of the images of a known set: raw scores, and stacks of maps on disk."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from kdad.detectors.context import Outputs
from kdad.detectors.detector import Detector
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.images.splits import Split
from kdad.progress import counted
from kdad.scoring.map_stack import write_stacks
from kdad.storage.content_store import ContentStore

_SCORES = "raw_scores.csv"


@dataclass(frozen=True)
class RawMaps:
    """Raw scores of validation and test images (column ``row`` and one a score), and raw maps `(N, H, W)` by method.

    Validation images come first; a costly method has test images alone. `seconds` is by method, what it cost to make.
    """

    scores: pd.DataFrame
    stacks: dict[str, np.ndarray]
    seconds: dict[str, float]
    keys: dict[str, str]


def map_images(detector: Detector, feature_set: FeatureSet, methods: Sequence[str], store: ContentStore) -> RawMaps:
    """Map the scored images by each method, or find them mapped."""
    cheap = [name for name in methods if not detector.is_costly(name)]
    cheap += [name for name in detector.image_score.map_names if name not in cheap]
    found = _obtain(detector, feature_set, cheap, feature_set.split.scored, store)
    for method in [name for name in methods if detector.is_costly(name)]:
        more = _obtain(detector, feature_set, [method], feature_set.split.rows("test"), store)
        found = RawMaps(found.scores, found.stacks | more.stacks, found.seconds | more.seconds, found.keys | more.keys)
    return found


def _obtain(
    detector: Detector, feature_set: FeatureSet, methods: list[str], rows: np.ndarray, store: ContentStore
) -> RawMaps:
    key = detector.raw_key(methods, feature_set)
    name = methods[0] if methods else "scores"

    def build(folder: Path) -> None:
        started = perf_counter()
        _write(detector, feature_set, methods, rows, folder)
        (folder / "cost.json").write_text(json.dumps({"seconds": perf_counter() - started}))

    folder, _ = store.obtain(key, build)
    return RawMaps(
        pd.read_csv(folder / _SCORES),
        {method: np.load(folder / f"{method}.npy", mmap_mode="r") for method in methods},
        {name: json.loads((folder / "cost.json").read_text())["seconds"]},
        {name: key},
    )


def _write(detector: Detector, feature_set: FeatureSet, methods: list[str], rows: np.ndarray, folder: Path) -> None:
    scores: list[dict[str, np.ndarray]] = []

    def batches() -> Iterator[dict[str, np.ndarray]]:
        done = 0
        for raw in run_over(detector, feature_set, rows, methods):
            found = {name: values.cpu().numpy() for name, values in (raw.maps | raw.scores).items()}
            for name, values in found.items():
                _check_finite(name, values, feature_set.split, rows[done : done + len(values)])
            done += len(next(iter(found.values())))
            scores.append({name: found[name] for name in raw.scores})
            yield found

    write_stacks(folder, methods, (len(rows), *detector.size), batches())
    columns = {name: np.concatenate([batch[name] for batch in scores]) for name in (scores[0] if scores else {})}
    pd.DataFrame({"row": rows, **columns}).to_csv(folder / _SCORES, index=False)


def _check_finite(name: str, values: np.ndarray, split: Split, rows: np.ndarray) -> None:
    """Raise `InputError` that names the image whose map, or raw score, `(B, ...)` is not finite."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        raise InputError(
            f"'{name}' of {split.name(int(rows[np.argmin(finite)]))} is not finite; look at the image, or train the "
            "detector again with a lower learning_rate or compute.precision=float32"
        )


@torch.no_grad()
def run_over(
    detector: Detector, feature_set: FeatureSet, rows: np.ndarray, methods: Sequence[str]
) -> Iterator[Outputs]:
    """Yield what the detector says of these rows, batch by batch, through the frozen networks' kept outputs."""
    detector.eval()
    size = detector.batch_size(methods[0] if methods else None)
    title = f"Mapping {methods[0].replace('_', ' ')}" if methods else "Scoring"
    for start in counted(range(0, len(rows), size), title):
        batch = rows[start : start + size]
        yield detector.maps(feature_set.batch(batch), feature_set.outputs(batch), methods)
