"""A case: a detector's settings on one category with one seed; how it is run, and its result."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from kdad.comparison.memory import ResidentRise
from kdad.comparison.result import CaseResult
from kdad.comparison.results import pixel_histograms
from kdad.compute import Compute
from kdad.content_store import ContentStore, Stores, content_key
from kdad.detectors.detector import Detector
from kdad.detectors.judgement import heat_limits
from kdad.detectors.mapping import RawMaps, map_images
from kdad.detectors.registry import SYSTEMS
from kdad.detectors.workshop import Fitting, Workshop
from kdad.features.cache import FeatureCache
from kdad.features.network import FrozenNetwork, FrozenReference
from kdad.features.seen import SeenImages, obtain_class_features, obtain_features
from kdad.images.ground_truth import GroundTruth, read_ground_truth
from kdad.images.image_set import ImageSet, hash_content
from kdad.images.splits import Split
from kdad.metrics.measure import TestMaps, measure
from kdad.parameters.scoring import MeasuringParameters
from kdad.parameters.strict import StrictModel
from kdad.provenance import code_digest, code_version
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet
from kdad.scoring.decisions import decide
from kdad.scoring.map_stack import smooth_stack


@dataclass(frozen=True)
class Case:
    """One variant of a system on one category with one seed: the unit that is trained, scored and measured.

    `settings` are complete; `overrides` say, by dotted names, what differs from the run's own.
    """

    axis: str
    variant: str
    category: str
    seed: int
    system: str
    settings: StrictModel
    overrides: dict[str, Any]

    @property
    def detector(self) -> type[Detector]:
        """The system's class."""
        return SYSTEMS[self.system]

    @property
    def head(self) -> dict[str, Any]:
        """What a result says of whose it is."""
        return {"axis": self.axis, "variant": self.variant, "category": self.category, "seed": self.seed}

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Axis, variant, category and seed."""
        return self.axis, self.variant, self.category, self.seed

    @property
    def namespace(self) -> str:
        """Axis, variant and case: nested boxes in Kedro-Viz."""
        return f"{self.axis}.{self.variant}.{self.category}_seed_{self.seed}"

    @property
    def planned_key(self) -> str:
        """A key of what the plan wants, by which a summary tells results of other settings or other code."""
        return content_key(
            **self.head, system=self.system, settings=self.settings.model_dump(mode="json"), code=code_of(self.detector)
        )


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


def code_of(detector: type[Detector]) -> str:
    """Return a digest of the code behind a system's results: its own, and that of fitting, mapping and measuring."""
    return code_digest(detector.__module__, "kdad.detectors.mapping", "kdad.metrics.measure", "kdad.features.seen")


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


def run_case(case: Case, seen: SeenImages, bench: Bench) -> CaseResult:
    """Fit, map and measure a case, or find it done; raises `InputError` for settings that cannot be used.

    The result's folder holds detector, heat maps, scores, loss history, and what the pixel bootstrap needs.
    """
    detector, settings = case.detector, case.settings
    seen = detector.adapt(settings, seen, bench.split_seed)
    detector.check_inputs(settings, seen)
    workshop = bench.workshop(case.seed)
    references = detector.refer(settings, seen, workshop)
    seen = see(detector, settings, seen, references, bench)
    detector.check(settings, seen)
    truth = read_ground_truth(seen.split, seen.images)
    key = content_key(
        system=case.system,
        settings=settings.model_dump(mode="json"),
        features={name: cache.identity for name, cache in seen.features.items()},
        images=seen.split.digest,
        masks=[truth.reason, hash_content(truth.masks.tobytes())],
        measuring=bench.measuring.model_dump(),
        sheet_rows=bench.sheet_rows,
        seed=case.seed if detector.draws(settings) else None,
        code=code_of(detector),
    )

    def build(folder: Path) -> None:
        made = detector(settings, references, bench.compute)
        with ResidentRise() as resident:
            fitting = made.fit(seen, workshop)
            raw = map_images(made, seen, made.methods[:1], ContentStore(bench.stores.cases))
        _measure_into(folder, case, made, fitting, raw, seen, truth, bench, resident.peak)

    folder, reused = ContentStore(bench.stores.cases).obtain(key, build)
    found = CaseResult.model_validate_json((folder / "result.json").read_text())
    return found.model_copy(
        update={
            **case.head,
            "overrides": case.overrides,
            "planned": case.planned_key,
            "folder": str(folder),
            "reused": reused,
        }
    )


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


def draw_sheet(
    scores: pd.DataFrame, maps: np.ndarray, images: ImageSet, split: Split, truth: GroundTruth, rows: int, title: str
):
    """Draw test images with their maps `(N, H, W)`."""
    test = split.rows("test")
    shown = scores[scores["split"] == "test"].reset_index(drop=True)
    return draw_heatmap_sheet(shown, maps, lambda position: images.image(test[position]), truth.shown, rows, title)


def _measure_into(
    folder: Path,
    case: Case,
    detector: Detector,
    fitting: Fitting,
    raw: RawMaps,
    seen: SeenImages,
    truth: GroundTruth,
    bench: Bench,
    peak: int,
) -> None:
    """Smooth, score, decide and measure, and leave everything in `folder`."""
    started = perf_counter()
    smoothed = {
        method: smooth_stack(stack, detector.smoothing(method), folder / f"{method}.npy")
        for method, stack in raw.stacks.items()
    }
    numbers = {name: raw.scores[name].to_numpy() for name in raw.scores if name != "row"}
    scores = detector.image_score.of_images(numbers, smoothed)
    table, threshold = decide(seen.split, raw.scores["row"].to_numpy(), scores, bench.measuring.threshold_quantile)
    held_out = table["split"] == "validation"
    limits = [heat_limits(smoothed[method][: held_out.sum()]) for method in detector.methods[:1]]
    detector.calibrated(threshold, table.loc[held_out, "score"].to_numpy(), *limits)
    test = table[table["split"] == "test"].reset_index(drop=True)
    maps = {}
    for method in detector.methods[:1]:
        stacks = (seen.split.test_maps(found[method]) for found in (smoothed, raw.stacks))
        maps[method] = TestMaps(*stacks, detector.smoothing(method).gaussian_sigma)
    measured = measure(test, maps, truth, bench.measuring)
    metrics = {name: value for name, value in measured.items() if isinstance(value, int | float | None)}
    for found in maps.values():
        if truth.reason is None:
            normal, anomalous = pixel_histograms(truth.masks, found.smoothed[truth.positions])
            np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
        title = f"{seen.images.name} / {seen.images.category}: {case.variant.replace('_', ' ')}"
        sheet = draw_sheet(table, found.smoothed, seen.images, seen.split, truth, bench.sheet_rows, title)
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
            "peak_megabytes": peak / 1e6,
            **detector.cost(),
        },
        training_images=detector.record["training_images"],
        network=fitting.network,
        commit=detector.record["commit"],
        made=detector.record["made"],
    )
    (folder / "result.json").write_text(result.model_dump_json())


def failed_case(case: Case, error: str) -> CaseResult:
    """Return the result of a case that failed."""
    return CaseResult(
        **case.head,
        system=case.system,
        status="failed",
        error=error,
        overrides=case.overrides,
        planned=case.planned_key,
    )


def histograms_of(result: CaseResult) -> tuple[np.ndarray, np.ndarray] | None:
    """Read what the pixel bootstrap needs of a result's maps; None without masks."""
    path = Path(result.folder) / "histograms.npz"
    if not path.exists():
        return None
    with np.load(path) as found:
        return found["normal"], found["anomalous"]


def history_of(result: CaseResult) -> pd.DataFrame | None:
    """Read a result's loss history; None where nothing was trained epoch by epoch."""
    path = Path(result.folder) / "loss_history.csv"
    return pd.read_csv(path) if path.exists() else None
