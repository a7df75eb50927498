"""One forward pass of the cloner over images: the published detection score and the forward map together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.forward_map import fuse_points, location_maps
from kdad.detectors.mkd.parameters import DiscrepancyParameters
from kdad.features.cache import ActivationCache
from kdad.networks.point_choice import choose_points
from kdad.parameters.scoring import ScoringParameters
from kdad.scoring.map_stack import write_stack

_BATCH = 32


@dataclass(frozen=True)
class ForwardPass:
    """A trained cloner against cached source activations."""

    cache: ActivationCache
    cloner: nn.Module
    loss: DiscrepancyParameters
    compute: Compute

    @torch.no_grad()
    def activations(self, rows: np.ndarray) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Yield the source's and the cloner's activations `(B, C_i, H_i, W_i)`, batch by batch."""
        self.cloner.eval()
        for start in track(range(0, len(rows), _BATCH), description="Scoring", transient=True):
            batch = rows[start : start + _BATCH]
            source = [self.compute.move(activation) for activation in self.cache.activations(batch)]
            with self.compute.autocast():
                cloner = self.cloner(self.compute.move(self.cache.images(batch)))
            yield source, cloner

    def score(
        self, rows: np.ndarray, validation: np.ndarray, parameters: ScoringParameters, path: Path
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return L_total `(N,)` of each row, and the raw forward maps `(N, H, W)` written to `path`.

        `validation` are held-out normal rows; they alone set the scales of ``normalisation: validation``.
        """
        chosen = choose_points(parameters.detection.points, self.cache.names, "scoring.detection.points")
        mapped = choose_points(parameters.forward_map.points, self.cache.names, "scoring.forward_map.points")
        scales = self._scales(validation, mapped, parameters)
        scores: list[np.ndarray] = []

        def maps() -> Iterator[np.ndarray]:
            for source, cloner in self.activations(rows):
                terms = discrepancy_terms([source[i] for i in chosen], [cloner[i] for i in chosen], self.loss)
                scores.append(terms["total"].cpu().numpy())
                at_points = self._location_maps(source, cloner, mapped, parameters)
                fused = fuse_points(at_points, self.cache.size, parameters.forward_map.fusion, scales)
                yield fused.cpu().numpy()

        stack = write_stack(path, (len(rows), *self.cache.size), maps())
        return np.concatenate(scores), stack

    def _location_maps(self, source, cloner, mapped: list[int], parameters: ScoringParameters) -> list[Tensor]:
        pairs = [source[i] for i in mapped], [cloner[i] for i in mapped]
        return location_maps(*pairs, parameters.forward_map.term, self.loss)

    def _scales(self, validation: np.ndarray, mapped: list[int], parameters: ScoringParameters) -> list[float]:
        if parameters.forward_map.normalisation == "none":
            return [1.0] * len(mapped)
        sums = np.zeros(len(mapped))
        for source, cloner in self.activations(validation):
            maps = self._location_maps(source, cloner, mapped, parameters)
            sums += [m.flatten(1).mean(1).sum().item() for m in maps]
        return list(np.maximum(sums / len(validation), 1e-12))
