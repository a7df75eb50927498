"""Bottleneck and decoder of reverse distillation (Deng and Li 2022, section 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.networks.source import CriticalPoint

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
