"""A plan is run, and each of its cases: fitted, mapped, measured, or found done."""

import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector, FitResult
from kdad.detectors.evaluation import RawMaps, extract_features, map_images, maps_to_measure
from kdad.detectors.parameters import SystemSettings
from kdad.errors import PLAIN, InputError
from kdad.experiments import steps
from kdad.experiments.case import Case, CaseResult, case_listeners, code_of, failed_case
from kdad.experiments.plan import Plan
from kdad.experiments.steps import RunContext
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import hash_content
from kdad.metrics.ground_truth import GroundTruth, read_ground_truth
from kdad.metrics.measure import numbers_of
from kdad.metrics.pixel_ranking import check_finite, check_shapes
from kdad.parameters.blocks import ComputeParameters
from kdad.progress import format_duration
from kdad.reporting.heat_maps import draw_test_sheet
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores, content_key

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


logger = logging.getLogger(__name__)

#: What the frozen networks of a system gave for a category, by category and system.
Caches = dict[tuple[str, str], dict[str, FeatureCache]]


@dataclass(frozen=True)
class CaseSettings:
    """What all cases of a run share, as it is sent to workers; `seed` is the run's, `sheet_rows` of the heat maps."""

    stores: Stores
    compute: ComputeParameters
    measuring: MeasuringParameters
    seed: int
    sheet_rows: int

    def context(self, shares_classes: bool) -> RunContext:
        """Prepare this process, and return what a case runs with."""
        machine = prepare_compute(self.compute)
        return RunContext(machine, self.stores, self.measuring, self.seed, self.sheet_rows, shares_classes)


def extract_plan_features(
    plans: Sequence[Plan], categories: dict[str, FeatureSet], stores: Stores, compute: ComputeParameters, seed: int
) -> Caches:
    """Check every case on its images before anything trains, and run the frozen networks that most cases share."""
    context = RunContext(prepare_compute(compute), stores, MeasuringParameters(), seed)
    return {
        pair: _extract(plan, *pair, categories[pair[0]], context)
        for plan in plans
        for pair in dict.fromkeys((case.prepared, case.system) for case in plan.cases)
    }


def _extract(
    plan: Plan, category: str, system: str, images: FeatureSet, context: RunContext
) -> dict[str, FeatureCache]:
    cases = [case for case in plan.cases if (case.prepared, case.system) == (category, system)]
    detector, base = cases[0].detector, plan.bases[system]
    images = detector.prepare_images(base, images, context.seed)
    for case in cases:
        _checking(case, plan, lambda settings: detector.check_inputs(settings, images))
    references = detector.frozen_networks(base, images, context.train_context(cases[0].seed))
    store = ContentStore(context.stores.features)
    images = extract_features(detector, base, images, references, context.compute, store, plan.shares_classes)
    for case in cases:
        if getattr(case.settings, "source", None) == getattr(base, "source", None):
            _checking(case, plan, lambda settings: detector.check(settings, images))
    return images.features


def _checking(case: Case, plan: Plan, check: Callable[[SystemSettings], None]) -> None:
    try:
        check(case.settings)
    except InputError as error:
        place = f"{plan.name}.variants.{case.axis}.variants.{case.variant}"
        raise InputError(f"{place}: {error}") from None


def run_here(
    plans: Sequence[Plan], categories: dict[str, FeatureSet], caches: Caches, settings: CaseSettings
) -> list[CaseResult]:
    """Run the cases of `plans` in this process, one after another; a case that fails does not stop the others."""
    report = CaseReport(sum(len(plan.cases) for plan in plans))
    results = []
    for plan in plans:
        for case in plan.cases:
            report.begin(case)
            feature_set = replace(categories[case.prepared], features=caches[case.prepared, case.system])
            results.append(run_one(case, feature_set, settings, plan.shares_classes))
            report.end(case, results[-1])
    return results


def run_one(case: Case, feature_set: FeatureSet, settings: CaseSettings, shares_classes: bool) -> CaseResult:
    """Fit, map and measure a case, or find it done; a failed case's result says its error."""
    try:
        return run_case(case, feature_set, settings.context(shares_classes))
    except Exception as error:  # whatever it is, the other cases can still run
        logger.error("%s failed: %s", case.name, error)
        logger.debug("%s", traceback.format_exc())
        return failed_case(case, f"{type(error).__name__}: {error}")


class CaseReport:
    """Tells listeners of each case, and says a line for each that has ended."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0
        self._began: dict[str, float] = {}

    def begin(self, case: Case) -> None:
        """Note the time, and tell that the case is begun."""
        if case.name not in self._began:  # one whose worker was lost begins again
            self._began[case.name] = perf_counter()
            for listener in case_listeners:
                listener.case_begins(case)

    def end(self, case: Case, result: CaseResult) -> None:
        """Tell the result, and say how long the case took, and whether it was found done or failed."""
        self._ended += 1
        seconds = format_duration(perf_counter() - self._began.pop(case.name))
        how = ", found done" if result.reused else "" if result.finished else ", failed"
        logger.info("Case %d/%d %s: %s%s", self._ended, self._total, case.name, seconds, how, extra=PLAIN)
        for listener in case_listeners:
            listener.case_ends(case, result)
