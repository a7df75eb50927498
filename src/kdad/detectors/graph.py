"""A detector as one module: frozen networks, learnt half, filters and score, all on tensors."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from kdad.detectors.context import Outputs, RawTensors
from kdad.features.network import FrozenNetwork
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.tensor_smoothing import Smoothing


class Graphed(Protocol):
    """What a graph needs of a detector."""

    size: tuple[int, int]
    frozen: dict[str, FrozenNetwork]

    @property
    def methods(self) -> list[str]: ...

    @property
    def needed_methods(self) -> list[str]: ...

    @property
    def image_score(self) -> ImageScore: ...

    def smoothing(self, method: str) -> SmoothingParameters: ...

    def raw_tensors(self, images: Tensor, outputs: Outputs, methods: Sequence[str]) -> RawTensors: ...


class DetectorGraph(nn.Module):
    """Images `(B, 3, H, W)` in [0, 1] to scores `(B,)`, and finished maps `(B, H, W)` where there are some."""

    def __init__(self, detector: Graphed) -> None:
        super().__init__()
        self.detector = detector
        self.networks = nn.ModuleDict({name: network.module for name, network in detector.frozen.items()})
        self.finishing = Finishing(detector)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the scores, and the maps."""
        outputs = {name: [found.float() for found in network(images)] for name, network in self.networks.items()}
        scores, maps = self.finishing(images, outputs)
        return (scores.float(), *(maps[name] for name in self.detector.methods[:1]))


class Finishing(nn.Module):
    """From the frozen networks' outputs to a detector's scores and finished maps: its own half, filters, and rule."""

    def __init__(self, detector: Graphed) -> None:
        super().__init__()
        object.__setattr__(self, "detector", detector)  # no submodule of its own: a committee's member has it inside
        self.filters = nn.ModuleDict(
            {name: Smoothing(detector.smoothing(name), detector.size) for name in detector.needed_methods}
        )

    def forward(self, images: Tensor, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scores `(B,)`, and the finished maps `(B, H, W)` that judging takes."""
        raw = self.detector.raw_tensors(images, outputs, self.detector.needed_methods)
        maps = {name: smoothed(raw.maps[name]) for name, smoothed in self.filters.items()}
        return score_tensors(self.detector.image_score, raw.scores, maps), maps


def score_tensors(rule: ImageScore, raw_scores: dict[str, Tensor], maps: dict[str, Tensor]) -> Tensor:
    """Return `ImageScore.of_images` of tensors."""
    if rule.rule == "raw":
        return raw_scores[rule.of]
    scored = maps[rule.of]
    if rule.rule == "map_maximum":
        return scored.flatten(1).amax(1)
    count = max(round(rule.top_fraction * scored[0].numel()), 1)
    return scored.flatten(1).topk(count, dim=1, sorted=False).values.mean(1)
