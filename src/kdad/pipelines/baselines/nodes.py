"""Nodes of the pipeline `baselines`."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad import __version__
from kdad.baselines.page import render_page
from kdad.baselines.runs import BaselineRun
from kdad.compute import prepare_compute
from kdad.datasets.activation_cache import ActivationCache
from kdad.datasets.content_store import ContentStore, content_key
from kdad.images.ground_truth import read_ground_truth, scored_rows, split_rows
from kdad.images.registry import open_image_set
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.ranking import detection_metrics
from kdad.parameters.baselines import BaselineParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet
from kdad.reporting.provenance import code_version
from kdad.scoring.decisions import decide
from kdad.training.seeding import numpy_generator

logger = logging.getLogger(__name__)


def run_baselines(
    split_table: pd.DataFrame,
    source_activations: ActivationCache,
    baselines: dict[str, Any],
    compute: dict[str, Any],
    folder: Path,
    seed: int,
) -> dict[str, str]:
    """Fit and score every baseline, or find it done; return each one's folder."""
    settings = BaselineParameters(**baselines)
    chosen = prepare_compute(ComputeParameters(**compute))
    shared = BaselineRun(source_activations, split_table, settings, chosen, seed)
    shared.check()
    store, folders = ContentStore(folder), {}
    common = settings.model_dump(include={"pixel_side", "components", "smoothing", "top_fraction"})
    for name, method in settings.present.items():
        key = content_key(
            activations=source_activations.manifest,
            split=split_table[["id", "split"]].to_csv(),
            detector=method.detector,
            sees=method.seen,
            options=method.map_options.model_dump() if method.maps else method.options,
            points=shared.points,
            common=common,
            seed=seed,
            version=__version__,
        )
        place, reused = store.obtain(key, lambda place, name=name, method=method: shared.run(name, method, place))
        logger.info("Baseline %s: %s", name, "found done" if reused else "finished")
        folders[name] = str(place)
    return folders


def measure_baselines(
    split_table: pd.DataFrame, baseline_folders: dict[str, str], dataset: dict[str, Any], baselines: dict[str, Any]
) -> tuple[pd.DataFrame, list[dict[str, Any]], dict[str, Any]]:
    """Return a row a baseline with its metrics and cost, the same as results of cases, and its numbers by name."""
    settings, images = BaselineParameters(**baselines), open_image_set(DatasetParameters(**dataset))
    truth = read_ground_truth(split_table, images)
    rows = []
    for name, folder in baseline_folders.items():
        test = _test_scores(split_table, folder, settings)
        generator = numpy_generator(0, "bootstrap")
        resamples = settings.bootstrap_resamples
        labels = test["label"].to_numpy()
        metrics = detection_metrics(labels, test["score"].to_numpy(), resamples, generator)
        method = settings.present[name]
        if not method.maps or truth.reason:
            metrics |= dict.fromkeys(PIXEL_METRICS)
        else:
            maps, raw = (_test_maps(split_table, folder, stack)[truth.positions] for stack in ("maps", "raw_maps"))
            sigma = settings.smoothing.gaussian_sigma
            metrics |= localisation_metrics(truth.masks, maps, raw, sigma, settings.max_fpr)
        facts = {"method": name, "detector": method.detector, "sees": method.seen}
        cost = json.loads((Path(folder) / "cost.json").read_text())
        rows.append({**facts, **metrics, "training_images": len(split_rows(split_table, "train")), **cost})
    results = [
        {
            "status": "finished",
            "variant": row["method"],
            "category": images.category,
            "metrics": {name: row[name] for name in ("image_auroc", *PIXEL_METRICS)},
        }
        for row in rows
    ]
    table = pd.DataFrame(rows)
    numbers = table.set_index("method").select_dtypes("number")
    return table, results, {name: row.dropna().to_dict() for name, row in numbers.iterrows()}


def draw_baselines(
    split_table: pd.DataFrame,
    baseline_folders: dict[str, str],
    table: pd.DataFrame,
    dataset: dict[str, Any],
    baselines: dict[str, Any],
    source: dict[str, Any],
    seed: int,
) -> tuple[dict[str, Figure], str]:
    """Draw a heat-map sheet for each baseline that maps, and put them on a page with the table."""
    settings, images = BaselineParameters(**baselines), open_image_set(DatasetParameters(**dataset))
    rows, truth = split_rows(split_table, "test"), read_ground_truth(split_table, images)
    all_masked = truth.reason is None and len(truth.masks) == len(rows)
    figures = {}
    for name, folder in baseline_folders.items():
        if not settings.present[name].maps:
            continue
        maps = _test_maps(split_table, folder, "maps")
        shown = _test_scores(split_table, folder, settings)
        figures[name] = draw_heatmap_sheet(
            shown,
            maps,
            lambda position: images.image(rows[position]),
            lambda position: truth.masks[position] if all_masked else None,
            settings.sheet_rows,
            f"{images.name} / {images.category}: {name.replace('_', ' ')}",
        )
    height, width = images.size
    facts = f"{height} x {width} pixels, source {source['name']}, seed {seed}, commit {code_version(Path.cwd())}"
    page = render_page(f"Baselines: {images.name} / {images.category}", facts, table, figures)
    return {f"{name}.png": figure for name, figure in figures.items()}, page


def _test_scores(split_table: pd.DataFrame, folder: str, settings: BaselineParameters) -> pd.DataFrame:
    scores = np.load(Path(folder) / "scores.npy")
    decided, _ = decide(split_table, scored_rows(split_table), scores, settings.threshold_quantile)
    return decided[decided["split"] == "test"].reset_index(drop=True)


def _test_maps(split_table: pd.DataFrame, folder: str, stack: str) -> np.ndarray:
    return np.load(Path(folder) / f"{stack}.npy", mmap_mode="r")[len(split_rows(split_table, "validation")) :]
