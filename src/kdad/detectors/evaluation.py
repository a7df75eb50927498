"""A detector over a known set of images: frozen outputs, raw maps, decisions, and what is measured."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from kdad.compute import Compute
from kdad.detectors.detector import Detector, Outputs
from kdad.detectors.predictor import colour_limits_of
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet, obtain_features
from kdad.features.network import FrozenNetwork, NetworkReference
from kdad.images.splits import Split
from kdad.metrics.measure import MapSet
from kdad.parameters.strict import StrictModel
from kdad.progress import counted
from kdad.scoring.parameters import GroupScore
from kdad.scoring.smoothing import chunks_of
from kdad.scoring.threshold import Calibration, PixelThreshold, Threshold, least_pixels, level_of, quantile_threshold
from kdad.storage.content_store import ContentStore
from kdad.storage.disk_space import create_map

_SCORES, _COST = "raw_scores.csv", "cost.json"
#: Of a united set: the map that scores are of, each image's by the moments of its own category; and that score.
OF_CATEGORY, CATEGORY_SCORE = "of_category", "category_score"
_FLOAT32_BATCH = 8


def extract_features(
    detector: type[Detector],
    settings: StrictModel,
    feature_set: FeatureSet,
    references: dict[str, NetworkReference],
    compute: Compute,
    store: ContentStore,
    shares_classes: bool = False,
) -> FeatureSet:
    """Return the images with what the frozen networks give for them, computed or found in the `store`.

    What `feature_set` has already is taken where it is of the same networks. With `shares_classes` the classes of
    a labelled set share one pass.
    """
    options = detector.extraction_options(settings, feature_set.images.size)
    features = {}
    for name, reference in references.items():
        known = feature_set.features.get(name)
        if known is None or known.manifest["network"] != reference.identity:
            network = FrozenNetwork(reference, compute)
            known = obtain_features(store, network, feature_set.images, feature_set.split, options, shares_classes)
        features[name] = known
    return replace(feature_set, features=features)


@dataclass(frozen=True)
class RawMaps:
    """Raw scores of validation and test images (column ``row`` and one a score), and raw maps `(N, H, W)` by method.

    Validation images come first; a costly method has test images alone. `seconds` is by method, what it cost to make.
    """

    scores: pd.DataFrame
    stacks: dict[str, np.ndarray]
    seconds: dict[str, float]


def map_images(detector: Detector, feature_set: FeatureSet, methods: Sequence[str], store: ContentStore) -> RawMaps:
    """Map the scored images by each method, or find them mapped."""
    cheap = [name for name in methods if not detector.is_costly(name)]
    cheap += [name for name in detector.image_score.map_names if name not in cheap]
    raw = _obtain(detector, feature_set, cheap, feature_set.split.scored, store)
    for method in [name for name in methods if detector.is_costly(name)]:
        more = _obtain(detector, feature_set, [method], feature_set.split.rows("test"), store)
        raw = RawMaps(raw.scores, raw.stacks | more.stacks, raw.seconds | more.seconds)
    return raw


def _obtain(
    detector: Detector, feature_set: FeatureSet, methods: list[str], rows: np.ndarray, store: ContentStore
) -> RawMaps:
    key = detector.raw_key(methods, feature_set)
    name = methods[0] if methods else "scores"

    def build(folder: Path) -> None:
        started = perf_counter()
        _write(detector, feature_set, methods, rows, folder)
        (folder / _COST).write_text(json.dumps({"seconds": perf_counter() - started}))

    folder, _ = store.obtain(key, build)
    files = {name: folder / f"{name}.npy" for name in [*methods, OF_CATEGORY]}
    return RawMaps(
        pd.read_csv(folder / _SCORES),
        {name: np.load(file, mmap_mode="r") for name, file in files.items() if file.is_file()},
        {name: json.loads((folder / _COST).read_text())["seconds"]},
    )


def _write(detector: Detector, feature_set: FeatureSet, methods: list[str], rows: np.ndarray, folder: Path) -> None:
    shape, standardised = (len(rows), *detector.size), detector.image_score.of
    is_united = bool(detector.categories and feature_set.split.members) and standardised in methods
    names = [*methods, *([OF_CATEGORY] if is_united else [])]
    stacks = {name: create_map(folder / f"{name}.npy", np.float32, shape) for name in names}
    scores: list[pd.DataFrame] = []
    done = 0
    for raw in run_over(detector, feature_set, rows, methods):
        arrays = {name: values.cpu().numpy() for name, values in (raw.maps | raw.scores).items()}
        batch = rows[done : done + len(next(iter(arrays.values())))]
        if is_united:
            members = feature_set.split.table["member"].iloc[batch]
            pairs = zip(raw.maps[standardised], members, strict=True)
            arrays[OF_CATEGORY] = torch.stack([detector.moments.again(one, name) for one, name in pairs]).cpu().numpy()
        for name, values in arrays.items():
            _check_finite(name, values, feature_set.split, batch)
        for method, stack in stacks.items():
            stack[done : done + len(batch)] = arrays[method]
        scores.append(pd.DataFrame({"row": batch} | {name: arrays[name] for name in raw.scores}))
        done += len(batch)
    for stack in stacks.values():
        stack.flush()
    pd.concat(scores or [pd.DataFrame({"row": rows})]).to_csv(folder / _SCORES, index=False)


def _check_finite(name: str, values: np.ndarray, split: Split, rows: np.ndarray) -> None:
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


def threshold_scores(
    detector: Detector,
    split: Split,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    quantile: float,
    group_score: GroupScore | None = None,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold at a `quantile` of normal validation scores; decide on every scored image.

    The table has a row an image: id, label, kind, split, score, raw scores, threshold, decision (1 = anomalous). Scores
    are the raw ones, or of smoothed maps. Where groups are decided on, each row has its group's score and decision.
    Raises `InputError` as `quantile_threshold`.
    """
    columns = [name for name in ("id", "label", "kind", "split", "member", "group") if name in split.table]
    table = split.table.loc[raw_scores["row"], columns].reset_index(drop=True)
    rule = detector.region_score

    def score(maps: np.ndarray) -> np.ndarray:
        parts = [rule.of_maps(torch.from_numpy(np.array(maps[rows]))) for rows in chunks_of(maps)]
        return torch.cat(parts).numpy().astype(np.float64)  # what the file says is then what was decided on

    is_raw = rule.rule == "raw"
    table["score"] = raw_scores[rule.of].to_numpy(dtype=np.float64) if is_raw else score(anomaly_maps[rule.of])
    if OF_CATEGORY in anomaly_maps:
        table[CATEGORY_SCORE] = score(anomaly_maps[OF_CATEGORY])
    for name in raw_scores.columns.drop("row"):
        if name not in table:
            table[name] = raw_scores[name].to_numpy()
    held_out = table[table["split"] == "validation"]
    threshold = quantile_threshold(held_out["score"].to_numpy(), quantile, _groups_of(held_out), group_score)
    table["threshold"] = threshold.value
    table["decision"] = (table["score"] > threshold.value).astype(int)
    if threshold.group_value is not None:
        table["group_score"] = table.groupby(["split", "group"])["score"].transform(group_score)
        table["group_decision"] = (table["group_score"] > threshold.group_value).astype(int)
    return table, threshold


def _groups_of(table: pd.DataFrame) -> np.ndarray | None:
    """Return the group of each image, None where there are none."""
    return table["group"].to_numpy(dtype=str) if "group" in table else None


def _validation_scores(table: pd.DataFrame) -> np.ndarray:
    return table.loc[table["split"] == "validation", "score"].to_numpy()


def set_threshold(
    detector: Detector, scores: pd.DataFrame, threshold: Threshold, anomaly_maps: dict[str, np.ndarray]
) -> Detector:
    """Give `detector` its threshold, the normal scores that others are ranked among, and the limits of its heat maps.

    Validation images come first in `anomaly_maps`.
    """
    validation = _validation_scores(scores)
    limits = [
        colour_limits_of(anomaly_maps[method][: len(validation)], detector.region) for method in detector.methods[:1]
    ]
    detector.calibrated(threshold, validation, *limits)
    detector.by_category = thresholds_by_category(scores, threshold.wanted, threshold.group_score)
    return detector


def set_pixel_threshold(
    detector: Detector, feature_set: FeatureSet, anomaly_maps: dict[str, np.ndarray], quantile: float, min_area: int
) -> None:
    """Give `detector` its threshold on maps, of normal validation images; none without maps of them."""
    if not detector.methods or detector.is_costly(detector.methods[0]):
        return
    rows, images = feature_set.split.rows("validation"), feature_set.images
    leasts = [least_pixels(min_area, images.own_size(int(row)), images.size) for row in rows]
    maps = anomaly_maps[detector.methods[0]][: len(rows)]
    levels = np.array([level_of(one, least) for one, least in zip(maps, leasts, strict=True)])
    threshold = quantile_threshold(levels, quantile, _groups_of(feature_set.split.table.iloc[rows]))
    detector.pixel_threshold = PixelThreshold.of(threshold, levels, min_area=min_area)


def own_scores(scores: pd.DataFrame) -> pd.Series:
    """Return the scores of images of a united set by the moments of their own category, where there are some."""
    return scores[CATEGORY_SCORE if CATEGORY_SCORE in scores else "score"]


def thresholds_by_category(
    scores: pd.DataFrame, quantile: float, group_score: GroupScore | None = None
) -> dict[str, Calibration]:
    """Return a threshold for each category of a united set, on its own validation scores; none for other sets.

    Scores are by the category's own moments, where there are some.
    """
    if "member" not in scores:
        return {}
    held_out = scores[scores["split"] == "validation"]
    by_member = {
        name: (own_scores(rows).to_numpy(), _groups_of(rows)) for name, rows in held_out.groupby("member", sort=False)
    }
    return {
        name: Calibration.of(quantile_threshold(own, quantile, groups, group_score), own)
        for name, (own, groups) in by_member.items()
    }


@torch.no_grad()
def calibrate_float32(
    detector: Detector, feature_set: FeatureSet, quantile: float, group_score: GroupScore | None = None
) -> None:
    """Set the threshold that `detector` has in float32, where it computes in bfloat16: for machines that do not.

    The validation images pass the networks once more, out of what features keep. Their scores differ by more than what
    lies between them, so that a threshold of one format promises nothing in the other.
    """
    twin = detector.float32_twin()
    if twin is None:
        return
    rows = feature_set.split.rows("validation")
    parts = []
    for start in range(0, len(rows), _FLOAT32_BATCH):
        batch = rows[start : start + _FLOAT32_BATCH]
        ignored = [feature_set.images.ignored(int(row)) for row in batch]
        parts.append(twin.score_and_map(feature_set.batch(batch), None, ignored)[0].cpu().numpy())
    scores = np.concatenate(parts).astype(np.float64)
    groups = _groups_of(feature_set.split.table.iloc[rows])
    detector.in_float32 = Calibration.of(quantile_threshold(scores, quantile, groups, group_score), scores)


def maps_to_measure(
    detector: Detector, split: Split, raw_maps: dict[str, np.ndarray], anomaly_maps: dict[str, np.ndarray]
) -> dict[str, MapSet]:
    """Return the test images' maps by each method that has some, in the detector's order, raw and smoothed."""
    return {
        method: MapSet(
            split.test_maps(anomaly_maps[method]),
            split.test_maps(raw_maps[method]),
            detector.smoothing(method).gaussian_sigma,
        )
        for method in detector.methods
        if method in anomaly_maps
    }
