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
from kdad.comparison.measuring import Judged, Truth, measure_maps
from kdad.comparison.plan import Case
from kdad.content_store import ContentStore, content_key
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.detectors.mkd.training import build_cloner_for
from kdad.features.cache import ActivationCache
from kdad.images.ground_truth import GroundTruth, read_ground_truth
from kdad.images.image_set import ImageSet, hash_content
from kdad.images.registry import open_image_set
from kdad.networks.weights_file import NetworkWeightsDataset
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.scoring import ScoringParameters
from kdad.pipelines.cloner.nodes import train_cloner
from kdad.pipelines.scoring.nodes import calibrate_threshold, map_forward, map_gradients
from kdad.scoring.smoothing import smooth_stack


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
        "network": "cloner",
        "loss_history": str(Path(trained["folder"]) / "loss_history.csv"),
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
    judged = Judged(scores, threshold, method, maps, raw)
    measured = measure_maps(judged, settings, Truth(table, images, truth), sheet_rows, folder)
    for stack in ("maps.npy", "forward.npy"):
        (folder / stack).unlink(missing_ok=True)
    measured["measuring_seconds"] = time.perf_counter() - started
    (folder / "result.json").write_text(json.dumps(measured))


def _flops(cache: ActivationCache, cloner: dict[str, Any]) -> int:
    """Count the multiplications and additions of the cloner's forward pass over one image."""
    network = build_cloner_for(cache, ClonerParameters(**cloner).architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *cache.size))
    return counter.get_total_flops()
