"""A case is run: fitted, mapped, measured, or found done."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from kdad.content_store import ContentStore, content_key
from kdad.detectors.deciding import calibrate_on, decide_known, maps_to_measure
from kdad.detectors.detector import Detector
from kdad.detectors.mapping import RawMaps, map_images
from kdad.detectors.seeing import see
from kdad.detectors.workshop import Fitting
from kdad.experiments.bench import Bench, record_of
from kdad.experiments.case import Case, code_of
from kdad.experiments.memory import ResidentRise
from kdad.experiments.result import CaseResult
from kdad.experiments.results import pixel_histograms
from kdad.features.seen import SeenImages
from kdad.images.ground_truth import GroundTruth, read_ground_truth
from kdad.images.image_set import hash_content
from kdad.metrics.measure import measure, numbers_of
from kdad.reporting.heatmap_sheet import draw_test_sheet
from kdad.scoring.map_stack import smooth_stack


def run_case(case: Case, seen: SeenImages, bench: Bench) -> CaseResult:
    """Fit, map and measure a case, or find it done; raises `InputError` for settings that cannot be used.

    The result's folder holds detector, heat maps, scores, loss history, and what the pixel bootstrap needs.
    """
    detector, settings = case.detector, case.settings
    seen = detector.adapt(settings, seen, bench.split_seed)
    detector.check_inputs(settings, seen)
    workshop = bench.workshop(case.seed)
    references = detector.refer(settings, seen, workshop)
    features = ContentStore(bench.stores.features)
    seen = see(detector, settings, seen, references, bench.compute, features, bench.shares_classes)
    detector.check(settings, seen)
    truth = read_ground_truth(seen.split, seen.images, bench.measuring.resolution)
    key = content_key(
        system=case.system,
        settings=settings.model_dump(mode="json"),
        features={name: cache.identity for name, cache in seen.features.items()},
        images=seen.split.digest,
        masks=[truth.reason, *(hash_content(mask.tobytes()) for mask in (truth.masks, *(truth.own_masks or ())))],
        measuring=bench.measuring.model_dump(),
        sheet_rows=bench.sheet_rows,
        seed=case.seed if detector.draws(settings) else None,
        code=code_of(case.system),
    )

    def build(folder: Path) -> None:
        made = detector(settings, references, bench.compute)
        made.preparation = seen.images.preparation
        with ResidentRise() as resident:
            fitting = made.fit(seen, workshop)
            raw = map_images(made, seen, made.methods[:1], ContentStore(bench.stores.cases))
        _measure_into(folder, case, _Fitted(made, fitting, raw, resident.peak), seen, truth, bench)

    folder, reused = ContentStore(bench.stores.cases).obtain(key, build)
    found = CaseResult.model_validate_json((folder / "result.json").read_text())
    return found.model_copy(
        update={
            **case.head,
            "overrides": case.overrides,
            "varied": case.varied,
            "paper": case.paper,
            "planned": case.planned_key,
            "folder": str(folder),
            "reused": reused,
        }
    )


@dataclass(frozen=True)
class _Fitted:
    """A fitted detector, its raw maps, and the most bytes that both took at once."""

    detector: Detector
    fitting: Fitting
    raw: RawMaps
    peak: int


def _measure_into(
    folder: Path, case: Case, fitted: _Fitted, seen: SeenImages, truth: GroundTruth, bench: Bench
) -> None:
    """Smooth, score, decide and measure, and leave everything in `folder`."""
    started = perf_counter()
    detector, fitting, raw = fitted.detector, fitted.fitting, fitted.raw
    smoothed = {
        method: smooth_stack(stack, detector.smoothing(method), folder / f"{method}.npy")
        for method, stack in raw.stacks.items()
    }
    quantile = bench.measuring.threshold_quantile
    table, threshold = decide_known(detector, seen.split, raw.scores, smoothed, quantile)
    calibrate_on(detector, table, threshold, smoothed)
    test = table[table["split"] == "test"].reset_index(drop=True)
    shown = {method: smoothed[method] for method in detector.methods[:1]}
    maps = maps_to_measure(detector, seen.split, raw.stacks, shown)
    measured = measure(test, maps, truth, bench.measuring)
    metrics = numbers_of(measured)
    for found in maps.values():
        if truth.reason is None and truth.masks.any() and not truth.masks.all():
            normal, anomalous = pixel_histograms(truth.masks, found.smoothed[truth.positions])
            np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
        title = f"{seen.images.name} / {seen.images.category}: {case.variant.replace('_', ' ')}"
        sheet = draw_test_sheet(table, found.smoothed, seen.images, seen.split, truth, bench.sheet_rows, title)
        sheet.savefig(folder / "heatmaps.png")
    test[["id", "label", "kind", "score", "threshold", "decision"]].to_csv(folder / "scores.csv", index=False)
    if fitting.history is not None:
        fitting.history.to_csv(folder / "loss_history.csv", index=False)
    detector.record = record_of(seen, case.seed, metrics)
    detector.save(folder / "detector")
    for method in smoothed:
        (folder / f"{method}.npy").unlink()
    state = detector.learnt_state().values()
    result = CaseResult(
        **case.head,
        system=case.system,
        status="finished",
        method=next(iter(detector.methods), detector.image_score.of),
        metrics=metrics,
        labels=test["label"].tolist(),
        scores=test["score"].tolist(),
        threshold=threshold.value,
        costs={
            "train_seconds": fitting.seconds,
            "measuring_seconds": perf_counter() - started,
            "milliseconds_an_image": 1000 * sum(raw.seconds.values()) / max(len(raw.scores), 1),
            "kept_megabytes": sum(tensor.numel() * tensor.element_size() for tensor in state) / 1e6,
            "peak_megabytes": fitted.peak / 1e6,
            **detector.cost(),
        },
        training_images=detector.record["training_images"],
        network=fitting.network,
        commit=detector.record["commit"],
        made=detector.record["made"],
    )
    (folder / "result.json").write_text(result.model_dump_json())
