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
from kdad.ablation.variants import Case
from kdad.datasets.activation_cache import ActivationCache
from kdad.datasets.content_store import ContentStore, content_key
from kdad.datasets.network_weights import NetworkWeightsDataset
from kdad.images.ground_truth import GroundTruth, read_ground_truth, split_rows
from kdad.images.image_set import ImageSet, hash_content
from kdad.images.registry import open_image_set
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.ranking import detection_metrics
from kdad.parameters.cloner import ClonerParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.scoring import ScoringParameters
from kdad.pipelines.cloner.nodes import train_cloner
from kdad.pipelines.scoring.nodes import calibrate_threshold, map_forward, map_gradients
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet
from kdad.scoring.smoothing import smooth_stack
from kdad.training.cloner import build_cloner_for
from kdad.training.seeding import numpy_generator


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
    images = open_image_set(DatasetParameters(**around.dataset))
    truth = read_ground_truth(around.split_table, images)
    scoring = case.blocks["scoring"]
    key = content_key(
        maps=mapped["key"],
        images=around.split_table.to_csv(),
        masks=[truth.reason, hash_content(truth.masks.tobytes())],
        scoring=scoring,
        sheet_rows=sheet_rows,
    )

    def build(folder: Path) -> None:
        _measure(scoring, mapped, around.split_table, images, truth, sheet_rows, folder)

    folder, reused = around.maps.obtain(key, build)
    measured = json.loads((folder / "result.json").read_text())
    return {
        **case.head,
        "key": key,
        "status": "finished",
        "error": None,
        "settings": case.settings,
        "method": scoring["localisation"][0],
        **measured,
        "train_seconds": trained["seconds"],
        "seconds": trained["seconds"] + measured["measuring_seconds"],
        "reused": trained["reused"] and reused,
        "parameters": trained["parameters"],
        "flops": trained["flops"],
        "folder": str(folder),
        "model_folder": trained["folder"],
    }


def _measure(
    scoring: dict[str, Any],
    mapped: dict[str, Any],
    table: pd.DataFrame,
    images: ImageSet,
    truth: GroundTruth,
    sheet_rows: int,
    folder: Path,
) -> None:
    started = time.perf_counter()
    settings = ScoringParameters(**scoring)
    method = settings.localisation[0]
    forward = np.load(Path(mapped["forward"]) / "discrepancy.npy", mmap_mode="r")
    raw = np.load(Path(mapped["method"]) / f"{method}.npy", mmap_mode="r")
    maps = smooth_stack(raw, settings.smoothing[method], folder / "maps.npy")
    if method == "discrepancy":
        forward = maps
    elif settings.detection.score != "total_loss":
        forward = smooth_stack(forward, settings.smoothing["discrepancy"], folder / "forward.npy")
    total_loss = pd.read_csv(Path(mapped["forward"]) / "total_loss.csv")
    scores, threshold = calibrate_threshold(table, total_loss, {"discrepancy": forward}, scoring)
    shown = scores[scores["split"] == "test"].reset_index(drop=True)
    labels = shown["label"].to_numpy()
    generator = numpy_generator(0, "bootstrap")
    metrics = detection_metrics(labels, shown["score"].to_numpy(), settings.bootstrap_resamples, generator)
    test = split_rows(table, "test")
    test_maps, test_raw = maps[len(maps) - len(test) :], raw[len(raw) - len(test) :]
    if truth.reason:
        metrics |= dict.fromkeys(PIXEL_METRICS)
    else:
        at = truth.positions
        sigma = settings.smoothing[method].gaussian_sigma
        metrics |= localisation_metrics(truth.masks, test_maps[at], test_raw[at], sigma, settings.max_fpr)
        normal, anomalous = pixel_histograms(truth.masks, test_maps[at])
        np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
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
        "scores": shown["score"].tolist(),
        "threshold": threshold["value"],
        "measuring_seconds": time.perf_counter() - started,
    }
    (folder / "result.json").write_text(json.dumps(result))


def _flops(cache: ActivationCache, cloner: dict[str, Any]) -> int:
    """Count the multiplications and additions of the cloner's forward pass over one image."""
    network = build_cloner_for(cache, ClonerParameters(**cloner).architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *cache.size))
    return counter.get_total_flops()
