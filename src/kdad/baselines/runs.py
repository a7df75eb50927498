"""One baseline from cached images and activations to scores and maps, with what it cost."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate

from kdad.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.baselines.image_detectors import fit_detector
from kdad.baselines.patch_detectors import (
    PatchScores,
    PositionGaussian,
    feature_dictionary,
    memory_bank,
    patch_features,
    patches_of,
    sample_patches,
)
from kdad.baselines.representations import represent
from kdad.compute import Compute
from kdad.datasets.activation_cache import ActivationCache
from kdad.datasets.map_stack import write_stack
from kdad.errors import InputError
from kdad.images.ground_truth import scored_rows, split_rows
from kdad.parameters.baselines import BaselineMethodParameters, BaselineParameters
from kdad.parameters.cloner import TrainingParameters
from kdad.scoring.detection import map_scores
from kdad.scoring.smoothing import smooth
from kdad.training.checkpoints import CheckpointFile
from kdad.training.seeding import derive_seed, numpy_generator

_BATCH = 16
_DEFAULT_POINTS = 3


@dataclass(frozen=True)
class BaselineRun:
    """What all baselines of a category share: activations, splits, settings, machine and seed."""

    cache: ActivationCache
    table: pd.DataFrame
    parameters: BaselineParameters
    compute: Compute
    seed: int

    @property
    def points(self) -> list[str]:
        """The critical points of patch features; raises `InputError` for one that the source does not have."""
        wanted = self.parameters.points or list(self.cache.names[:_DEFAULT_POINTS])
        for name in wanted:
            if name not in self.cache.names:
                raise InputError(f"baselines.points names '{name}'; the source has {', '.join(self.cache.names)}")
        return wanted

    def run(self, name: str, method: BaselineMethodParameters, folder: Path) -> None:
        """Fit on training images, score held-out and test images, and leave scores, maps and cost in `folder`."""
        started = time.perf_counter()
        if method.maps:
            batches, fitted, kept = self._maps(method, folder)
            rows = scored_rows(self.table)
            maps = write_stack(folder / "maps.npy", (len(rows), *self.cache.size), batches)
            scores = map_scores(maps, "map_top_mean", self.parameters.top_fraction)
        else:
            scores, fitted, kept = self._image_scores(method)
        ended = time.perf_counter()
        np.save(folder / "scores.npy", np.asarray(scores, dtype=np.float64))
        cost = {
            "fit_seconds": fitted - started,
            "milliseconds_an_image": 1000 * (ended - fitted) / len(scores),
            "kept_megabytes": kept / 1e6,
        }
        (folder / "cost.json").write_text(json.dumps(cost))

    def _image_scores(self, method: BaselineMethodParameters) -> tuple[np.ndarray, float, int]:
        settings, training = self.parameters, split_rows(self.table, "train")

        def vectors(rows: np.ndarray) -> np.ndarray:
            return represent(
                self.cache, rows, training, method.representation, settings.pixel_side, settings.components
            )

        known = vectors(training)
        mean, sd = known.mean(axis=0), known.std(axis=0)
        sd[sd == 0] = 1
        known = (known - mean) / sd
        score = fit_detector(method.detector, known, method.options, derive_seed(self.seed, "baselines"))
        fitted = time.perf_counter()
        scores = score((vectors(scored_rows(self.table)) - mean) / sd)
        return scores, fitted, known.nbytes

    def _maps(self, method: BaselineMethodParameters, folder: Path) -> tuple[Iterator[np.ndarray], float, int]:
        if method.detector.endswith("_autoencoder"):
            return self._residuals(method, folder)
        score, kept = self._fit_patches(method)
        return self._patch_maps(score), time.perf_counter(), kept

    def _fit_patches(self, method: BaselineMethodParameters) -> tuple[PatchScores, int]:
        training, options = split_rows(self.table, "train"), method.options
        generator = numpy_generator(self.seed, "baselines", method.detector)
        if method.detector == "position_gaussian":
            total = patch_features(self.cache, training[:1], self.points).shape[1]
            channels = np.sort(generator.permutation(total)[: options.get("channels", 64)])
            gaussian = PositionGaussian(channels, options.get("ridge", 0.01))
            for start in range(0, len(training), _BATCH):
                batch = training[start : start + _BATCH]
                gaussian.update(patches_of(patch_features(self.cache, batch, self.points)))
            return gaussian.finish()
        patches = sample_patches(self.cache, training, self.points, options.get("patches", 10_000), generator)
        if method.detector == "memory_bank":
            return memory_bank(patches)
        seed = derive_seed(self.seed, "baselines", "dictionary")
        return feature_dictionary(patches, options.get("words", 100), options.get("explained", 0.95), seed)

    def _patch_maps(self, score: PatchScores) -> Iterator[np.ndarray]:
        rows = scored_rows(self.table)
        for start in range(0, len(rows), _BATCH):
            features = patch_features(self.cache, rows[start : start + _BATCH], self.points)
            found = torch.from_numpy(np.ascontiguousarray(score(patches_of(features)), dtype=np.float32))
            grid = found.unflatten(1, features.shape[-2:])
            yield self._smoothed(
                interpolate(grid[:, None], self.cache.size, mode="bilinear", align_corners=False)[:, 0].numpy()
            )

    def _residuals(self, method: BaselineMethodParameters, folder: Path) -> tuple[Iterator[np.ndarray], float, int]:
        loss, options = method.detector.partition("_")[0], dict(method.options)
        shape = {name: options.pop(name, default) for name, default in (("depth", 4), ("width", 16), ("latent", 32))}
        step = 2 ** shape["depth"]
        if any(side % step for side in self.cache.size):
            raise InputError(
                f"baselines: {method.detector} of depth {shape['depth']} needs image sides that {step} divides; set "
                "dataset.image_size or the method's depth"
            )
        training = TrainingParameters(**{"epochs": 60, "batch_size": 16, "learning_rate": 0.002} | options)
        rows = {split: split_rows(self.table, split) for split in ("train", "validation")}
        network = new_autoencoder(**shape, seed=self.seed)
        checkpoint = CheckpointFile(folder / "training.checkpoint", f"{loss}-{self.seed}")
        network = train_autoencoder(self.cache, rows, loss, network, training, self.compute, self.seed, checkpoint)
        checkpoint.path.unlink(missing_ok=True)
        kept = sum(value.numel() * value.element_size() for value in network.state_dict().values())
        return self._residual_maps(network, loss), time.perf_counter(), kept

    @torch.no_grad()
    def _residual_maps(self, network: torch.nn.Module, loss: str) -> Iterator[np.ndarray]:
        rows = scored_rows(self.table)
        for start in range(0, len(rows), _BATCH):
            images = self.compute.move(self.cache.images(rows[start : start + _BATCH]))
            with self.compute.autocast():
                found = network(images)
            yield self._smoothed(residual(found, images, loss).cpu().numpy())

    def _smoothed(self, maps: np.ndarray) -> np.ndarray:
        return smooth(maps, self.parameters.smoothing)
