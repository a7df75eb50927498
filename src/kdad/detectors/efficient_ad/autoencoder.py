"""The autoencoder of EfficientAD: a whole image through 64 numbers, and back as a teacher's descriptors."""

from math import ceil

from torch import Tensor, nn
from torch.nn.functional import interpolate

_BOTTLENECK, _NARROW, _WIDE = 64, 32, 64
_COARSEST = 8  # locations a side at most, before and after the bottleneck
_DROPOUT = 0.2


class DescriptorAutoencoder(nn.Module):
    """Strided convolutions down to a vector of 64 numbers, and a way up to descriptors `(B, depth, h, w)`.

    Images are of one `size` (H, W), descriptors on one `grid` (h, w). What lies where in an image has to pass the
    vector, so a logical defect does not (Batzner et al. 2024, section 3.3; widths, bottleneck and dropout are theirs).
    """

    def __init__(self, depth: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        down: list[nn.Module] = []
        channels = 3
        while max(size) > _COARSEST and min(size) > 1:
            width = _NARROW if len(down) < 4 else _WIDE
            down += [nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU()]
            channels, size = width, (size[0] // 2, size[1] // 2)
        self.encoder = nn.Sequential(*down, nn.Conv2d(channels, _BOTTLENECK, size))
        self.sizes = [grid]
        while max(self.sizes[0]) > _COARSEST:
            height, width = self.sizes[0]
            self.sizes.insert(0, (ceil(height / 2), ceil(width / 2)))
        height, width = self.sizes[0]
        self.widen = nn.Sequential(nn.Linear(_BOTTLENECK, _WIDE * height * width), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(_WIDE, _WIDE, 3, padding=1), nn.ReLU(), nn.Dropout(_DROPOUT)) for _ in self.sizes
        )
        self.head = nn.Conv2d(_WIDE, depth, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # Values keep their size through ten layers: PyTorch's default shrinks them, and little is learnt.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the descriptors of images `(B, 3, H, W)` in [0, 1] would be, were they as in training."""
        vectors = self.encoder(images * 2 - 1).flatten(1)
        x = self.widen(vectors).unflatten(1, (_WIDE, *self.sizes[0]))
        for stage, size in zip(self.stages, self.sizes, strict=True):
            x = stage(interpolate(x, size=size, mode="bilinear", align_corners=False) if x.shape[2:] != size else x)
        return self.head(x)
