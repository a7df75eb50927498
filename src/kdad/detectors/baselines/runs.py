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

from kdad.compute import Compute
from kdad.detectors.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.detectors.baselines.image_detectors import build_detector, fit_detector
from kdad.detectors.baselines.memory import ResidentRise
from kdad.detectors.baselines.parameters import (
    AutoencoderOptions,
    BaselineMethodParameters,
    BaselineParameters,
    FeatureDictionaryOptions,
    MemoryBankOptions,
    NearestCentreOptions,
    PositionGaussianOptions,
)
from kdad.detectors.baselines.patch_detectors import (
    PatchScores,
    PositionGaussian,
    feature_dictionary,
    memory_bank,
    nearest_centre,
    one_class_svm,
    patch_features,
    patches_of,
    sample_patches,
)
from kdad.detectors.baselines.representations import represent
from kdad.errors import InputError
from kdad.features.cache import ActivationCache
from kdad.images.ground_truth import scored_rows, split_rows
from kdad.scoring.detection import map_scores
from kdad.scoring.map_stack import write_stack
from kdad.scoring.smoothing import smooth_stack
from kdad.seeding import derive_seed, numpy_generator
from kdad.training.checkpoints import CheckpointFile

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
        """The critical points of patch features."""
        return self.parameters.points or list(self.cache.names[:_DEFAULT_POINTS])

    def check(self) -> None:
        """Raise `InputError`, naming the field, for what would otherwise stop a baseline after others are fitted."""
        for name in self.points:
            if name not in self.cache.names:
                raise InputError(f"baselines.points names '{name}'; the source has {', '.join(self.cache.names)}")
        for name, method in self.parameters.present.items():
            try:
                self._check_method(method)
            except InputError as error:
                raise InputError(f"baselines.methods.{name}: {error}") from None

    def _check_method(self, method: BaselineMethodParameters) -> None:
        if not method.maps:
            build_detector(method.detector, (2, 2), method.options, 0)
            return
        options = method.map_options
        if isinstance(options, AutoencoderOptions) and any(side % 2**options.depth for side in self.cache.size):
            raise InputError(
                f"depth {options.depth} needs image sides that {2**options.depth} divides, not {self.cache.size}; "
                "change dataset.image_size or the depth"
            )

    def run(self, name: str, method: BaselineMethodParameters, folder: Path) -> None:
        """Fit on training images, score held-out and test images, and leave scores, maps and cost in `folder`.

        Raises `InputError`, naming the method, when its library fails.
        """
        try:
            self._run(method, folder)
        except Exception as error:
            raise InputError(
                f"baselines.methods.{name} failed ({type(error).__name__}: {error}); change its options, or leave it "
                f"out with {name}: null"
            ) from error

    def _run(self, method: BaselineMethodParameters, folder: Path) -> None:
        started = time.perf_counter()
        with ResidentRise() as resident:
            if method.maps:
                batches, fitted, kept = self._maps(method, folder)
                raw = write_stack(folder / "raw_maps.npy", (len(scored_rows(self.table)), *self.cache.size), batches)
                maps = smooth_stack(raw, self.parameters.smoothing, folder / "maps.npy")
                scores = map_scores(maps, "map_top_mean", self.parameters.top_fraction)
            else:
                scores, fitted, kept = self._image_scores(method)
        ended = time.perf_counter()
        np.save(folder / "scores.npy", np.asarray(scores, dtype=np.float64))
        cost = {
            "fit_seconds": fitted - started,
            "milliseconds_an_image": 1000 * (ended - fitted) / len(scores),
            "kept_megabytes": kept / 1e6,
            "peak_megabytes": resident.peak / 1e6,
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
        return scores, fitted, score.kept_bytes

    def _maps(self, method: BaselineMethodParameters, folder: Path) -> tuple[Iterator[np.ndarray], float, int]:
        if method.detector.endswith("_autoencoder"):
            return self._residuals(method, folder)
        score, kept = self._fit_patches(method)
        return self._patch_maps(score), time.perf_counter(), kept

    def _fit_patches(self, method: BaselineMethodParameters) -> tuple[PatchScores, int]:
        training, options = split_rows(self.table, "train"), method.map_options
        generator = numpy_generator(self.seed, "baselines", method.detector)
        if isinstance(options, PositionGaussianOptions):
            total = patch_features(self.cache, training[:1], self.points).shape[1]
            gaussian = PositionGaussian(np.sort(generator.permutation(total)[: options.channels]), options.ridge)
            for start in range(0, len(training), _BATCH):
                batch = training[start : start + _BATCH]
                gaussian.update(patches_of(patch_features(self.cache, batch, self.points)))
            return gaussian.finish()
        patches = sample_patches(self.cache, training, self.points, options.patches, generator)
        if isinstance(options, MemoryBankOptions):
            return memory_bank(patches)
        seed = derive_seed(self.seed, "baselines", "dictionary")
        if isinstance(options, FeatureDictionaryOptions):
            return feature_dictionary(patches, options.words, options.explained, seed)
        if isinstance(options, NearestCentreOptions):
            return nearest_centre(patches, options.centres, seed)
        return one_class_svm(patches, options.nu)

    def _patch_maps(self, score: PatchScores) -> Iterator[np.ndarray]:
        rows = scored_rows(self.table)
        for start in range(0, len(rows), _BATCH):
            features = patch_features(self.cache, rows[start : start + _BATCH], self.points)
            found = torch.from_numpy(np.ascontiguousarray(score(patches_of(features)), dtype=np.float32))
            grid = found.unflatten(1, features.shape[-2:])
            yield interpolate(grid[:, None], self.cache.size, mode="bilinear", align_corners=False)[:, 0].numpy()

    def _residuals(self, method: BaselineMethodParameters, folder: Path) -> tuple[Iterator[np.ndarray], float, int]:
        loss, options = method.detector.removesuffix("_autoencoder"), method.map_options
        rows = {split: split_rows(self.table, split) for split in ("train", "validation")}
        network = new_autoencoder(loss, **options.shape, seed=self.seed)
        checkpoint = CheckpointFile(folder / "training.checkpoint", f"{loss}-{self.seed}")
        network = train_autoencoder(
            *(self.cache, rows, loss, network, options.training, self.compute, self.seed, checkpoint),
            noise_sd=getattr(options, "noise_sd", 0.0),
        )
        checkpoint.clear()
        kept = sum(value.numel() * value.element_size() for value in network.state_dict().values())
        return self._residual_maps(network, loss), time.perf_counter(), kept

    @torch.no_grad()
    def _residual_maps(self, network: torch.nn.Module, loss: str) -> Iterator[np.ndarray]:
        rows = scored_rows(self.table)
        for start in range(0, len(rows), _BATCH):
            images = self.compute.move(self.cache.images(rows[start : start + _BATCH]))
            with self.compute.autocast():
                found = network(images)
            yield residual(found, images, loss).cpu().numpy()
