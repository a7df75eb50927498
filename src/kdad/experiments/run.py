"""A case is run: fitted, mapped, measured, or found done."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from kdad.detectors.detector import Detector, FitResult
from kdad.detectors.evaluation import RawMaps, map_images, maps_to_measure
from kdad.experiments import steps
from kdad.experiments.case import Case, CaseResult, code_of
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import hash_content
from kdad.metrics.ground_truth import GroundTruth, read_ground_truth
from kdad.metrics.measure import numbers_of
from kdad.metrics.pixel_ranking import check_finite, check_shapes
from kdad.reporting.heat_maps import draw_test_sheet
from kdad.storage.content_store import content_key

_INTERVAL = 0.01  # seconds between looks


@contextmanager
def resident_rise() -> Iterator[list[int]]:
    """Yield a list whose one number is the most bytes by which resident memory has risen above the block's start.

    Looked at every 10 ms by a thread, so what is freed sooner may be missed, as is what fits into memory freed before.
    """
    process, ended = psutil.Process(), threading.Event()
    start, peak = process.memory_info().rss, [0]

    def look() -> None:
        peak[0] = max(peak[0], process.memory_info().rss - start)

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            look()

    thread = threading.Thread(target=watch, name="resident memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        look()


def run_case(case: Case, feature_set: FeatureSet, context: steps.RunContext) -> CaseResult:
    """Fit, map and measure a case, or find it done; raises `InputError` for settings that cannot be used.

    The result's folder holds detector, heat maps, scores, loss history, and what the pixel bootstrap needs.
    """
    detector, settings = case.detector, case.settings
    train_context = context.train_context(case.seed)
    feature_set, references = steps.prepare_frozen(detector, settings, feature_set, train_context)
    feature_set = steps.extract_features(detector, settings, feature_set, references, context)
    scored = replace(feature_set, split=feature_set.split.of_member(case.member)) if case.member else feature_set
    truth = read_ground_truth(scored.split, feature_set.images, context.measuring.resolution)
    key = content_key(
        system=case.system,
        settings=settings.model_dump(mode="json"),
        features={name: cache.identity for name, cache in feature_set.features.items()},
        images=scored.split.digest,
        masks=[truth.reason, *(hash_content(mask.tobytes()) for mask in (truth.masks, *(truth.own_masks or ())))],
        regions=[hash_content(region.tobytes()) for region in truth.own_regions or truth.regions or ()],
        measuring=context.measuring.model_dump(),
        sheet_rows=context.sheet_rows,
        seed=case.seed if detector.is_stochastic(settings) else None,
        code=code_of(case.system),
    )

    def build(folder: Path) -> None:
        with resident_rise() as peak:
            made, fitting = steps.fit_detector(detector, settings, feature_set, references, train_context)
            made = made.of_category(case.member) if case.member else made
            raw = map_images(made, scored, made.methods[:1], context.cases)
        _measure_into(folder, case, made, fitting, raw, peak[0], scored, truth, context)

    folder, reused = context.cases.obtain(key, build)
    found = CaseResult.model_validate_json((folder / "result.json").read_text())
    return found.model_copy(update=case.facts | {"folder": str(folder), "reused": reused})


def _measure_into(
    folder: Path,
    case: Case,
    detector: Detector,
    fitting: FitResult,
    raw: RawMaps,
    peak: int,
    feature_set: FeatureSet,
    truth: GroundTruth,
    context: steps.RunContext,
) -> None:
    """Smooth, score, decide and measure, and leave everything in `folder`; `peak` is in bytes."""
    started = perf_counter()
    smoothed = steps.smooth_maps(detector, feature_set, raw.stacks)
    table, threshold = steps.decide(detector, feature_set.split, raw.scores, smoothed, context.measuring)
    test = table[table["split"] == "test"].reset_index(drop=True)
    shown = {method: smoothed[method] for method in detector.methods[:1]}
    measured, curves = steps.measure(detector, feature_set.split, table, raw.stacks, shown, truth, context.measuring)
    metrics = numbers_of(measured)
    maps = maps_to_measure(detector, feature_set.split, raw.stacks, shown)
    for method, found in maps.items():
        if method in curves and truth.masks.any() and not truth.masks.all():
            smoothed_maps = found.smoothed[truth.positions]
            normal, anomalous = pixel_histograms(truth.masks, smoothed_maps, curves[method].quantiles, truth.regions)
            np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
        title = f"{feature_set.images.name} / {feature_set.images.category}: {case.variant.replace('_', ' ')}"
        sheet = draw_test_sheet(
            table, found.smoothed, feature_set.images, feature_set.split, truth, context.sheet_rows, title
        )
        sheet.savefig(folder / "heatmaps.png")
    test[["id", "label", "kind", "score", "threshold", "decision"]].to_csv(folder / "scores.csv", index=False)
    if fitting.history is not None:
        fitting.history.to_csv(folder / "loss_history.csv", index=False)
    kept = steps.calibrate(detector, feature_set, table, threshold, smoothed, measured, context.measuring)
    kept.save(folder / "detector")
    state = detector.state_dict().values()
    result = CaseResult(
        **case.head,
        system=case.system,
        status="finished",
        method=next(iter(detector.methods), detector.image_score.of),
        metrics=metrics,
        labels=test["label"].tolist(),
        scores=test["score"].tolist(),
        groups=test["group"].astype(str).tolist() if "group" in test else [],
        threshold=threshold.value,
        costs={
            "train_seconds": fitting.seconds,
            "measuring_seconds": perf_counter() - started,
            "milliseconds_an_image": 1000 * sum(raw.seconds.values()) / max(len(raw.scores), 1),
            "kept_megabytes": sum(tensor.numel() * tensor.element_size() for tensor in state) / 1e6,
            "peak_megabytes": peak / 1e6,
            **detector.cost(),
        },
        training_images=detector.record["training_images"],
        network=fitting.network,
        commit=detector.record["commit"],
        made=detector.record["made"],
    )
    (folder / "result.json").write_text(result.model_dump_json())


def pixel_histograms(
    masks: np.ndarray, maps: np.ndarray, edges: np.ndarray, regions: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many normal and how many anomalous pixels of each image fall between `edges`, both `(N, edges + 1)`.

    `masks` and `maps` are `(N, H, W)`, masks non-zero where anomalous; of their `regions` `(H, W)` alone, if given.
    Edges are quantiles of all pixels, ascending, so
    AUROC from the bins between them differs from the exact one by at most half the chance that a normal and an
    anomalous pixel share a bin. Raises `InputError` when shapes differ or a value is not finite.
    """
    check_shapes(masks, maps)
    for row, anomaly_map in enumerate(maps):
        check_finite(anomaly_map, row)
    bins, edges = len(edges) + 1, np.unique(edges)
    normal = np.zeros((len(maps), bins), dtype=np.int32)
    anomalous = np.zeros_like(normal)
    for row, (mask, anomaly_map) in enumerate(zip(masks.astype(bool, copy=False), maps, strict=True)):
        binned = np.searchsorted(edges, anomaly_map, side="right")
        anomalous[row] = np.bincount(binned[mask], minlength=bins)
        normal[row] = np.bincount(binned[~mask if regions is None else ~mask & regions[row]], minlength=bins)
    return normal, anomalous
