"""What is done for one case of an ablation, each step through the content store: train, map anomalies, measure."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdad import __version__
from kdad.ablation.results import pixel_histograms
from kdad.ablation.store import ContentStore, content_key
from kdad.ablation.variants import Case
from kdad.datasets.activation_cache import ActivationCache
from kdad.datasets.map_stack import write_stack
from kdad.datasets.network_weights import NetworkWeightsDataset
from kdad.images.ground_truth import read_ground_truth, split_rows
from kdad.images.registry import open_image_set
from kdad.metrics.calibration import quantile_threshold
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.ranking import detection_metrics
from kdad.parameters.cloner import ClonerParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.scoring import ScoringParameters
from kdad.pipelines.cloner.nodes import train_cloner
from kdad.pipelines.scoring.nodes import map_forward, map_gradients
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet
from kdad.scoring.detection import image_scores
from kdad.scoring.smoothing import smooth
from kdad.training.cloner import build_cloner_for
from kdad.training.seeding import numpy_generator

_CHUNK = 32


@dataclass(frozen=True)
class Surroundings:
    """What the cases of a category share."""

    dataset: dict[str, Any]
    compute: dict[str, Any]
    split_table: pd.DataFrame
    image_statistics: dict[str, Any]
    models: ContentStore
    maps: ContentStore


def train_case(case: Case, cache: ActivationCache, around: Surroundings) -> dict[str, Any]:
    """Train the case's cloner, or find it trained; return its key, folder, cost and whether it was there."""
    cloner = case.blocks["cloner"]
    key = content_key(activations=cache.manifest, cloner=cloner, seed=case.seed, version=__version__)

    def build(folder: Path) -> None:
        weights, history, cost = train_cloner(around.split_table, cache, folder, around.compute, cloner, case.seed)
        NetworkWeightsDataset(filepath=str(folder / "cloner.safetensors")).save(weights)
        history.to_csv(folder / "loss_history.csv", index=False)
        (folder / "cost.json").write_text(json.dumps({**cost, "flops": _flops(cache, cloner)}))

    folder, reused = around.models.obtain(key, build)
    return {"key": key, "folder": str(folder), "reused": reused, **json.loads((folder / "cost.json").read_text())}


def map_case(case: Case, trained: dict[str, Any], cache: ActivationCache, around: Surroundings) -> dict[str, Any]:
    """Make the case's raw maps, or find them made; return the folder of the forward maps and that of its method's."""
    scoring, method = case.blocks["scoring"], case.blocks["scoring"]["localisation"][0]
    weights = NetworkWeightsDataset(filepath=f"{trained['folder']}/cloner.safetensors").load()
    table = around.split_table

    def build_forward(folder: Path) -> None:
        scores, _, cost = map_forward(table, cache, weights, around.compute, case.blocks["cloner"], scoring, folder)
        scores.to_csv(folder / "total_loss.csv", index=False)
        (folder / "cost.json").write_text(json.dumps(cost))

    def build_gradients(folder: Path) -> None:
        one = {**scoring, "localisation": [method]}
        source, cloner = case.blocks["source"], case.blocks["cloner"]
        _, cost = map_gradients(
            table, cache, weights, source, around.image_statistics, around.compute, cloner, one, case.seed, folder
        )
        (folder / "cost.json").write_text(json.dumps(cost))

    points = scoring["detection"]["points"]
    forward_key = content_key(trained=trained["key"], points=points, forward_map=scoring["forward_map"])
    forward, _ = around.maps.obtain(forward_key, build_forward)
    if method == "discrepancy":
        return {"key": forward_key, "forward": str(forward), "method": str(forward)}
    gradient_key = content_key(trained=trained["key"], method=method, gradient_map=scoring["gradient_map"])
    gradients, _ = around.maps.obtain(gradient_key, build_gradients)
    return {"key": f"{forward_key}-{gradient_key}", "forward": str(forward), "method": str(gradients)}


def measure_case(
    case: Case, trained: dict[str, Any], mapped: dict[str, Any], around: Surroundings, sheet_rows: int
) -> dict[str, Any]:
    """Smooth and measure the case's maps, or find them measured; return the result that summaries are made of."""
    started = time.perf_counter()
    scoring = ScoringParameters(**case.blocks["scoring"])
    method = scoring.localisation[0]
    images = content_key(table=around.split_table.drop(columns="fingerprint", errors="ignore").to_csv())
    key = content_key(
        maps=mapped["key"],
        images=images,
        method=method,
        smoothing=scoring.smoothing[method].model_dump(),
        detection=[scoring.detection.model_dump(), scoring.smoothing["discrepancy"].model_dump()],
        max_fpr=scoring.max_fpr,
        quantile=scoring.threshold_quantile,
        sheet_rows=sheet_rows,
    )
    folder, reused = around.maps.obtain(key, lambda partial: _measure(scoring, mapped, around, sheet_rows, partial))
    measured = json.loads((folder / "result.json").read_text())
    return {
        "axis": case.axis,
        "variant": case.variant,
        "category": case.category,
        "seed": case.seed,
        "key": key,
        "status": "finished",
        "error": None,
        "settings": case.settings,
        "method": method,
        **measured,
        "train_seconds": trained["seconds"],
        "seconds": trained["seconds"] + measured["measuring_seconds"],
        "reused": trained["reused"] and reused,
        "spent_seconds": time.perf_counter() - started,
        "parameters": trained["parameters"],
        "flops": trained["flops"],
        "folder": str(folder),
        "model_folder": trained["folder"],
    }


def _measure(scoring: ScoringParameters, mapped: dict[str, Any], around: Surroundings, sheet_rows: int, folder: Path):
    started = time.perf_counter()
    method, table = scoring.localisation[0], around.split_table
    forward = np.load(Path(mapped["forward"]) / "discrepancy.npy", mmap_mode="r")
    raw = np.load(Path(mapped["method"]) / f"{method}.npy", mmap_mode="r")
    maps = _smoothed(raw, scoring, method, folder / "maps.npy")
    needs_forward = scoring.detection.score != "total_loss"
    if needs_forward:
        forward = (
            maps if method == "discrepancy" else _smoothed(forward, scoring, "discrepancy", folder / "forward.npy")
        )
    total_loss = pd.read_csv(Path(mapped["forward"]) / "total_loss.csv")
    scores = image_scores(total_loss["total_loss"].to_numpy(), {"discrepancy": forward}, scoring.detection)
    scores = scores.astype(np.float64)
    held_out = (table["split"] == "validation").to_numpy()[total_loss["row"]]
    threshold = quantile_threshold(scores[held_out], scoring.threshold_quantile)
    test = split_rows(table, "test")
    labels, scores = table["label"].to_numpy()[test], scores[~held_out]
    metrics = detection_metrics(labels, scores, scoring.bootstrap_resamples, numpy_generator(0, "bootstrap"))

    images = open_image_set(DatasetParameters(**around.dataset))
    truth = read_ground_truth(table, images)
    test_maps, test_raw = maps[len(maps) - len(test) :], raw[len(raw) - len(test) :]
    if truth.reason:
        metrics |= dict.fromkeys(PIXEL_METRICS)
    else:
        at = truth.positions
        sigma = scoring.smoothing[method].gaussian_sigma
        metrics |= localisation_metrics(truth.masks, test_maps[at], test_raw[at], sigma, scoring.max_fpr)
        normal, anomalous = pixel_histograms(truth.masks, test_maps[at])
        np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
    shown = table.iloc[test].reset_index(drop=True).assign(score=scores, threshold=threshold.value)
    shown["decision"] = (shown["score"] > threshold.value).astype(int)
    figure = draw_heatmap_sheet(
        shown,
        test_maps,
        lambda position: images.image(test[position]),
        lambda position: truth.masks[position] if truth.reason is None and len(truth.masks) == len(test) else None,
        sheet_rows,
        f"{method.replace('_', ' ')} maps",
    )
    figure.savefig(folder / "heatmaps.png")
    shown[["id", "label", "kind", "score", "threshold", "decision"]].to_csv(folder / "scores.csv", index=False)
    for stack in ("maps.npy", "forward.npy"):
        (folder / stack).unlink(missing_ok=True)
    result = {
        "metrics": metrics,
        "labels": labels.tolist(),
        "scores": scores.tolist(),
        "threshold": threshold.value,
        "measuring_seconds": time.perf_counter() - started,
    }
    (folder / "result.json").write_text(json.dumps(result))


def _smoothed(maps: np.ndarray, scoring: ScoringParameters, method: str, path: Path) -> np.ndarray:
    steps = scoring.smoothing[method]
    chunks = (smooth(np.asarray(maps[start : start + _CHUNK]), steps) for start in range(0, len(maps), _CHUNK))
    return write_stack(path, maps.shape, chunks)


def _flops(cache: ActivationCache, cloner: dict[str, Any]) -> int:
    """Count the multiplications and additions of the cloner's forward pass over one image."""
    network = build_cloner_for(cache, ClonerParameters(**cloner).architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *cache.size))
    return counter.get_total_flops()
