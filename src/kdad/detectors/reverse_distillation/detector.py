"""Reverse distillation as a detector: where the decoder does not give the source's features back."""

from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.detectors.feature_distance import FeatureDistanceDetector, location_distance
from kdad.detectors.reverse_distillation.parameters import ReverseDistillationSettings
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.networks.source import CriticalPoint, choose_points
from kdad.scoring.smoothing import geometric_mean, upsample

#: Channels of the embedding, and the most that a point of few channels gets for twice its own.
_EMBEDDED, _DOUBLED = 256, 192


class ReverseStudent(nn.Module):
    """Gives the source's features back from one embedding of them all.

    Bottleneck: convolutions of 3 x 3 and stride 2 bring each point to the last one's resolution, and one more halves
    what they are together. Decoder: transposed convolutions of 2 x 2 double the resolution, from the last point to the
    first; at each, two convolutions of 3 x 3, and one of 1 x 1 to the point's channels. The published bottleneck and
    decoder are built of residual blocks as wide as the source; these are plain and narrower.
    """

    def __init__(self, points: Sequence[CriticalPoint]) -> None:
        super().__init__()
        self.sizes = [(point.height, point.width) for point in points]
        widths, last = [_width(point.channels) for point in points], self.sizes[-1]
        described = list(zip(points, widths, self.sizes, strict=True))
        self.joins = nn.ModuleList(
            _join(point.channels, width, _halvings(size, last)) for point, width, size in described
        )
        self.embed = nn.Sequential(_convolution(sum(widths), _EMBEDDED, stride=2), _convolution(_EMBEDDED, _EMBEDDED))
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        channels, reached = _EMBEDDED, embedded_size(last)
        for point, width, size in reversed(described):
            self.stages.append(_decode(channels, width, _halvings(size, reached)))
            self.heads.append(nn.Conv2d(width, point.channels, 1))
            channels, reached = width, size

    def forward(self, source: list[Tensor]) -> list[Tensor]:
        """Return features `(B, C_i, h_i, w_i)` for those of the source at the same points."""
        joined = [_fit(join(features), self.sizes[-1]) for join, features in zip(self.joins, source, strict=True)]
        x = self.embed(torch.cat(joined, dim=1))  # (B, 256, h / 2, w / 2) of the last point
        decoded = []
        for stage, head, size in zip(self.stages, self.heads, reversed(self.sizes), strict=True):
            x = _fit(stage(x), size)
            decoded.append(head(x))
        return decoded[::-1]


def embedded_size(last: tuple[int, int]) -> tuple[int, int]:
    """Return the embedding's height and width for those of the last point; odd sides are rounded up."""
    return (last[0] + 1) // 2, (last[1] + 1) // 2


def _width(channels: int) -> int:
    return max(min(2 * channels, _DOUBLED), channels // 2)


def _halvings(fine: tuple[int, int], coarse: tuple[int, int]) -> int:
    """Return how often a resolution is halved, odd sides rounded up, until it is nearly another."""
    count = 0
    while max(one / other for one, other in zip(fine, coarse, strict=True)) >= 1.5:
        fine, count = embedded_size(fine), count + 1
    return count


def _fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return features at just this size: sources round odd sides up or down."""
    return x if tuple(x.shape[2:]) == size else interpolate(x, size=size, mode="bilinear", align_corners=False)


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return _normalised(nn.Conv2d(channels, width, 3, stride, padding=1, bias=False))


def _normalised(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


def _join(channels: int, width: int, halvings: int) -> nn.Sequential:
    if halvings == 0:
        return _convolution(channels, width)
    further = [_convolution(width, width, stride=2) for _ in range(halvings - 1)]
    return nn.Sequential(_convolution(channels, width, stride=2), *further)


def _decode(channels: int, width: int, doublings: int) -> nn.Sequential:
    layers = []
    for _ in range(doublings):
        layers.append(_normalised(nn.ConvTranspose2d(channels, width, 2, stride=2, bias=False)))
        channels = width
    return nn.Sequential(*layers, _convolution(channels, width), _convolution(width, width))


#: Of the product of two squared lengths: a vector of length 0 has no direction, and a cosine of 0.
_SMALLEST = 1e-16


def reverse_loss(source: Sequence[Tensor], student: Sequence[Tensor], form: str) -> Tensor:
    """Return one minus the cosine, summed over critical points, `(B,)`.

    ``per_location`` takes the cosine over channels at each location and averages, as the paper has it; ``whole_map``
    that of the flattened map, as the published code does; ``both`` adds them.
    """
    terms = []
    for s, t in zip(source, student, strict=True):
        # Products at each location (B, h w), taken once for both forms: over large maps they cost as much as a network.
        dot, of_source, of_student = ((a.float() * b.float()).sum(1).flatten(1) for a, b in ((s, t), (s, s), (t, t)))
        if form != "whole_map":
            terms.append(_one_minus_cosine(dot, of_source, of_student).mean(1))
        if form != "per_location":
            terms.append(_one_minus_cosine(dot.sum(1), of_source.sum(1), of_student.sum(1)))
    return torch.stack(terms).sum(0)


def _one_minus_cosine(dot: Tensor, of_source: Tensor, of_student: Tensor) -> Tensor:
    return 1 - dot / (of_source * of_student).clamp_min(_SMALLEST).sqrt()


def reverse_map(source: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int], fusion: str) -> Tensor:
    """Return one minus the cosine at each location, upsampled to `size` (H, W), `(B, H, W)`.

    Over the critical points it is summed, as published, or averaged geometrically.
    """
    maps = [upsample(location_distance(s, t), size) for s, t in zip(source, student, strict=True)]
    return torch.stack(maps).sum(0) if fusion == "sum" else geometric_mean(maps)


class ReverseDistillationDetector(FeatureDistanceDetector):
    """A decoder learns to give the source's features of normal images back, from a bottleneck too small for more.

    Deng and Li 2022, "Anomaly Detection via Reverse Distillation from One-Class Embedding". The student sees the
    source's features and not the image, so an epoch on those that are kept costs the student alone. Map:
    ``feature_distance``.
    """

    system = "reverse_distillation"
    Settings = ReverseDistillationSettings

    @classmethod
    def check(cls, settings: ReverseDistillationSettings, feature_set: FeatureSet) -> None:
        super().check(settings, feature_set)
        cache, own = feature_set.features["source"], settings.reverse_distillation
        last = cache.points[choose_points(own.points, cache.names, f"{cls.system}.points")[-1]]
        images, most = len(feature_set.split.rows("train")), own.training.batch_size
        if embedded_size((last.height, last.width)) == (1, 1) and images // ceil(images / most) == 1:
            raise InputError(
                f"images of {cache.size[0]} x {cache.size[1]} pixels leave one location of '{last.name}' to embed, and "
                f"{images} training images in batches of {most} leave one image to a batch: nothing can be learnt of "
                "one value; use larger images (dataset.image_size), or more of them in a batch"
            )

    def shape_student(self, feature_set: FeatureSet) -> None:
        """Take the shapes of the source's features."""
        self.points = [feature_set.features["source"].points[i] for i in self.chosen_points]

    def student_settings(self) -> dict[str, Any]:
        """Return the form of the loss."""
        return {"loss": self.block.loss}

    def metadata(self) -> dict[str, Any]:
        """Return name and shape of the chosen critical points."""
        return {"points": [asdict(point) for point in self.points]}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.points = [CriticalPoint(**point) for point in facts["points"]]
        chosen = [self.references["source"].critical_points[i] for i in self.chosen_points]
        if [point.name for point in self.points] != chosen:
            raise ValueError(f"its points are {[point.name for point in self.points]}, and its settings name {chosen}")
        super().load_state(state, facts)

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        return super().map_settings(methods) | {"fusion": self.block.fusion}

    def new_student(self) -> nn.Module:
        """Build bottleneck and decoder for the chosen points."""
        return ReverseStudent(self.points)

    def imitate(self, student: nn.Module, images: Tensor, source: list[Tensor]) -> list[Tensor]:
        """Return what the decoder makes of the source's features; without them, of zeros in their shapes."""
        if not source:
            shapes = [(len(images), point.channels, point.height, point.width) for point in self.points]
            source = [images.new_zeros(shape) for shape in shapes]
        return student(source)

    def loss(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return one minus the cosine, in the form that the parameters say."""
        return reverse_loss(source, student, self.block.loss)

    def distance(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return one minus the cosine at each pixel, over the points as the parameters say."""
        return reverse_map(source, student, self.size, self.block.fusion)
