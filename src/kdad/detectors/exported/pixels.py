"""From an image's own pixels to what a detector takes, as a part of its graph: scaling of values, and the resize.

A bilinear, antialiased resize is two products with matrices that depend on the image's size alone. Runtimes have no
such resize for sizes that are known when an image comes, but they all multiply matrices.
"""

import torch
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.images.files.fitting import OUTSIDE, Fit, Preparation
from kdad.images.files.value_range import EIGHT_BITS


class Pixels(nn.Module):
    """Images `(B, H, W, 3)`, uint8 RGB of any size, to float32 `(B, 3, h, w)` in [0, 1] of one `size`.

    The same as `Preparation.placed` after `read_image`, to float32's last digits; where a region counts, of its size
    alone. Raises `InputError` for a detector of files of
    more than 8 bits.
    """

    def __init__(self, size: tuple[int, int], preparation: Preparation) -> None:
        super().__init__()
        values = preparation.values or EIGHT_BITS
        if values.kind != "8-bit":
            raise InputError(
                f"the detector was made of images of the kind '{values.kind}', and exported files take 8 bits; predict "
                "with the detector's own folder"
            )
        self.size, self.fit, self.low, self.range = size, preparation.fit, values.low, values.high - values.low
        self.clips = values.low > 0 or values.high < 255
        self.region = preparation.region

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared images."""
        batch, height, width, channels = image.shape
        down, across = resize_matrices(height, width, self.size, self.fit)
        values = image.float()
        if self.region is not None:
            counts = torch.from_numpy(self.region.mask)[None, :, :, None]
            values = torch.where(counts, values, self.low + OUTSIDE * self.range)
        if self.clips:
            values = self._scaled(values).clamp(0, 1)
        rows = down @ values.reshape(batch, height, width * channels)  # (B, h, W * 3)
        rows = rows.reshape(batch, self.size[0], width, channels).permute(0, 3, 1, 2)  # (B, 3, h, W)
        found = rows @ across.T
        # Where nothing is clipped, the few pixels that are left are scaled, and not the many of the image.
        return (found if self.clips else self._scaled(found)).clamp(0, 1)

    def _scaled(self, values: Tensor) -> Tensor:
        return (values - self.low) / self.range


def resize_matrices(height: int, width: int, size: tuple[int, int], fit: Fit) -> tuple[Tensor, Tensor]:
    """Return matrices `(h, H)` and `(w, W)` that bring images of H x W pixels to `size` (h, w) as `fit_image` does."""
    # As numbers of the graph, and no constants of it: the last of 0 .. H - 1, and one.
    own = [torch.arange(side)[-1] + 1 for side in (height, width)]
    if fit == "resize":
        spans = [(0, side, 0, target) for side, target in zip(own, size, strict=True)]
    else:
        scales = [target / side.double() for side, target in zip(own, size, strict=True)]
        scale = torch.minimum(*scales) if fit == "letterbox" else torch.maximum(*scales)
        if fit == "letterbox":  # all is seen, in a part of the target
            shown = [_rounded(side * scale, target) for side, target in zip(own, size, strict=True)]
            spans = [(0, side, (target - part) // 2, part) for side, target, part in zip(own, size, shown, strict=True)]
        else:  # a part is seen, in the whole target
            seen = [_rounded(target * (1 / scale), side) for side, target in zip(own, size, strict=True)]
            spans = [((side - part) // 2, part, 0, target) for side, target, part in zip(own, size, seen, strict=True)]
    return tuple(
        _resize_matrix(torch.arange(side), torch.arange(target), *span)
        for side, target, span in zip((height, width), size, spans, strict=True)
    )


def _resize_matrix(own: Tensor, target: Tensor, start: Tensor, seen: Tensor, top: Tensor, shown: Tensor) -> Tensor:
    """Return weights `(target, own)`: `seen` pixels from `start` on become `shown` ones from `top` on.

    A triangle as wide as a target pixel, or an own one where that is wider; beyond what is shown its border goes on.
    """
    target = torch.minimum((target - top).clamp(min=0), torch.as_tensor(shown - 1))
    column = own - start
    # Distances times 2 * shown, which are whole numbers: exact, however large the image.
    distance = ((2 * column + 1)[None] * shown - (2 * target + 1)[:, None] * seen).abs()
    widest = torch.maximum(torch.as_tensor(seen), torch.as_tensor(shown))
    weights = (1 - distance.float() / (2 * widest).float()).clamp(min=0)
    weights = weights * ((column >= 0) & (column < seen))[None].float()
    return weights / weights.sum(1, keepdim=True)


def _rounded(side: Tensor, most: int | Tensor) -> Tensor:
    return torch.minimum(side.round().long().clamp(min=1), torch.as_tensor(most))
