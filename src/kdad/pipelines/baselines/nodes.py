"""Nodes of the pipeline `baselines`."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kdad.comparison.baseline_page import render_page
from kdad.compute import prepare_compute
from kdad.content_store import ContentStore
from kdad.detectors.baselines.measuring import measure_baseline, obtain_baseline, read_cost, test_maps, test_scores
from kdad.detectors.baselines.parameters import BaselineParameters
from kdad.detectors.baselines.runs import BaselineRun
from kdad.features.cache import ActivationCache
from kdad.images.ground_truth import read_ground_truth, split_rows
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters
from kdad.provenance import code_version
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet

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
    for name in settings.present:
        place, reused = obtain_baseline(shared, name, store)
        logger.info("Baseline %s: %s", name, "found done" if reused else "finished")
        folders[name] = str(place)
    return folders


def measure_baselines(
    split_table: pd.DataFrame, baseline_folders: dict[str, str], dataset: dict[str, Any], baselines: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a row a baseline with its metrics and cost, and its numbers by name."""
    settings, images = BaselineParameters(**baselines), open_image_set(DatasetParameters(**dataset))
    truth = read_ground_truth(split_table, images)
    training = {"training_images": len(split_rows(split_table, "train"))}
    rows = []
    for name, folder in baseline_folders.items():
        method = settings.present[name]
        facts = {"method": name, "detector": method.detector, "sees": method.seen}
        metrics = measure_baseline(Path(folder), name, split_table, settings, truth)
        rows.append({**facts, **metrics, **training, **read_cost(Path(folder))})
    table = pd.DataFrame(rows)
    numbers = table.set_index("method").select_dtypes("number")
    return table, {name: row.dropna().to_dict() for name, row in numbers.iterrows()}


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
        maps = test_maps(Path(folder), split_table, "maps")
        shown = test_scores(Path(folder), split_table, settings)
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
