"""Nodes of the pipeline `scoring`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from kdad.compute import Compute, prepare_compute
from kdad.detectors.mkd.attribution import TotalDiscrepancy, gradient_maps
from kdad.detectors.mkd.forward_pass import ForwardPass
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.detectors.mkd.training import build_cloner_for
from kdad.errors import InputError
from kdad.features.activations import prepare_source
from kdad.features.cache import ActivationCache
from kdad.images.ground_truth import scored_rows
from kdad.networks.points import choose_points
from kdad.networks.weights_file import NetworkWeights
from kdad.parameters.scoring import MeasuringParameters, ScoringParameters
from kdad.parameters.source import ComputeParameters, SourceParameters
from kdad.scoring.decisions import decide
from kdad.scoring.detection import image_scores
from kdad.scoring.map_stack import write_stack
from kdad.scoring.smoothing import smooth_stack


def map_forward(
    split_table: pd.DataFrame,
    source_activations: ActivationCache,
    cloner_weights: NetworkWeights,
    compute: dict[str, Any],
    cloner: dict[str, Any],
    scoring: dict[str, Any],
    folder: Path,
) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[str, float]]:
    """Score held-out normal and test images by L_total and by the forward map.

    Returns the scores (row, total_loss) and the raw forward maps, both held-out images first, and what it cost.
    """
    started = time.perf_counter()
    chosen = prepare_compute(ComputeParameters(**compute))
    parameters = ClonerParameters(**cloner)
    rows = scored_rows(split_table)
    validation = rows[(split_table["split"] == "validation").to_numpy()[rows]]
    network = _trained_cloner(source_activations, cloner_weights, parameters, chosen)
    forward = ForwardPass(source_activations, network, parameters.loss, chosen)
    scores, maps = forward.score(rows, validation, ScoringParameters(**scoring), folder / "discrepancy.npy")
    cost = {"seconds": time.perf_counter() - started, "images": len(rows)}
    return pd.DataFrame({"row": rows, "total_loss": scores}), {"discrepancy": maps}, cost


def map_gradients(
    split_table: pd.DataFrame,
    source_activations: ActivationCache,
    cloner_weights: NetworkWeights,
    source: dict[str, Any],
    image_statistics: dict[str, list[float]],
    compute: dict[str, Any],
    cloner: dict[str, Any],
    scoring: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Map the test images by each gradient method that the parameters name; return maps and cost."""
    started = time.perf_counter()
    settings = ScoringParameters(**scoring)
    methods = [method for method in settings.localisation if method != "discrepancy"]
    if not methods:
        return {}, {"seconds": 0.0}
    chosen = prepare_compute(ComputeParameters(**compute))
    parameters = ClonerParameters(**cloner)
    positions = choose_points(settings.gradient_map.points, source_activations.names, "scoring.gradient_map.points")
    total = TotalDiscrepancy(
        chosen.place(prepare_source(SourceParameters(**source), image_statistics)),
        _trained_cloner(source_activations, cloner_weights, parameters, chosen),
        source_activations.scales,
        positions,
        parameters.loss,
        chosen,
        settings.gradient_map.guided,
    ).eval()
    total.requires_grad_(False)
    rows = scored_rows(split_table)
    rows = rows[(split_table["split"] == "test").to_numpy()[rows]]
    step = settings.gradient_map.batch_size
    maps = {}
    for method in methods:
        batches = (
            gradient_maps(
                total,
                chosen.move(source_activations.images(rows[start : start + step])),
                method,
                settings.gradient_map,
                seed,
            )
            .cpu()
            .numpy()
            for start in track(range(0, len(rows), step), description=f"Mapping {method}", transient=True)
        )
        maps[method] = write_stack(folder / f"{method}.npy", (len(rows), *source_activations.size), batches)
    return maps, {"seconds": time.perf_counter() - started, "images": len(rows)}


def smooth_maps(scoring: dict[str, Any], folder: Path, **raw_maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Filter each method's maps as its parameters say: peaks clipped, a Gaussian, a grey opening."""
    smoothing = MeasuringParameters.read(scoring).smoothing
    return {
        method: smooth_stack(maps, smoothing[method], folder / f"{method}.npy")
        for stacks in raw_maps.values()
        for method, maps in stacks.items()
    }


def calibrate_threshold(
    split_table: pd.DataFrame,
    total_loss_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    scoring: dict[str, Any],
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Set the threshold on held-out normal scores and decide on every scored image.

    The scores table has a row an image: id, label, kind, split, score, total_loss, threshold, decision (1 = anomalous).
    """
    settings = ScoringParameters(**scoring)
    found = image_scores(total_loss_scores["total_loss"].to_numpy(), anomaly_maps, settings.detection)
    scores, threshold = decide(split_table, total_loss_scores["row"].to_numpy(), found, settings.threshold_quantile)
    scores.insert(5, "total_loss", total_loss_scores["total_loss"])
    return scores, threshold


def _trained_cloner(
    cache: ActivationCache, weights: NetworkWeights, parameters: ClonerParameters, compute: Compute
) -> torch.nn.Module:
    network = build_cloner_for(cache, parameters.architecture)
    if weights.metadata.get("points") != ",".join(cache.names):
        raise InputError(
            f"the cloner was trained for {weights.metadata.get('points')}, but the activations are of "
            f"{','.join(cache.names)}; run the pipeline 'cloner' again"
        )
    network.load_state_dict(weights.state)
    return compute.place(network).eval()
