"""A baseline's finished folder, found or made, and its test images measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdad import __version__
from kdad.content_store import ContentStore, content_key
from kdad.detectors.baselines.parameters import BaselineParameters
from kdad.detectors.baselines.runs import BaselineRun
from kdad.images.ground_truth import GroundTruth, scored_rows, split_rows
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.ranking import detection_metrics
from kdad.scoring.decisions import decide
from kdad.seeding import numpy_generator


def obtain_baseline(run: BaselineRun, name: str, store: ContentStore) -> tuple[Path, bool]:
    """Fit and score the method `name`, or find it done; return its folder and whether it was there.

    What draws nothing at random is done once for all seeds.
    """
    settings, method = run.parameters, run.parameters.present[name]
    key = content_key(
        activations=run.cache.manifest,
        split=run.table[["id", "split"]].to_csv(),
        detector=method.detector,
        sees=method.seen,
        options=method.map_options.model_dump() if method.maps else method.options,
        points=run.points,
        common=settings.model_dump(include={"pixel_side", "components", "smoothing", "top_fraction"}),
        seed=run.seed if method.draws else None,
        version=__version__,
    )
    return store.obtain(key, lambda place: run.run(name, method, place))


def measure_baseline(
    folder: Path, name: str, table: pd.DataFrame, settings: BaselineParameters, truth: GroundTruth
) -> dict[str, Any]:
    """Return the metrics of a finished baseline on the test images; those of pixels are None without maps or masks."""
    test = test_scores(folder, table, settings)
    resamples = settings.bootstrap_resamples
    generator = numpy_generator(0, "bootstrap")
    metrics = detection_metrics(test["label"].to_numpy(), test["score"].to_numpy(), resamples, generator)
    if not settings.present[name].maps or truth.reason:
        return metrics | dict.fromkeys(PIXEL_METRICS)
    maps, raw = (test_maps(folder, table, stack)[truth.positions] for stack in ("maps", "raw_maps"))
    return metrics | localisation_metrics(truth.masks, maps, raw, settings.smoothing.gaussian_sigma, settings.max_fpr)


def read_cost(folder: Path) -> dict[str, float]:
    """Return what a finished baseline cost: fit_seconds, milliseconds_an_image, kept_megabytes, peak_megabytes."""
    return json.loads((folder / "cost.json").read_text())


def test_scores(folder: Path, table: pd.DataFrame, settings: BaselineParameters) -> pd.DataFrame:
    """Return a row a test image with score, threshold and decision, as `decide` makes them."""
    scores = np.load(folder / "scores.npy")
    decided, _ = decide(table, scored_rows(table), scores, settings.threshold_quantile)
    return decided[decided["split"] == "test"].reset_index(drop=True)


def test_maps(folder: Path, table: pd.DataFrame, stack: str) -> np.ndarray:
    """Return the test images' ``maps`` or ``raw_maps`` `(N, H, W)`, mapped."""
    return np.load(folder / f"{stack}.npy", mmap_mode="r")[len(split_rows(table, "validation")) :]
