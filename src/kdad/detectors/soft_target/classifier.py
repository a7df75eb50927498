"""A small convolutional classifier, teacher and student alike but for their widths."""

from torch import Tensor, nn

_GRID = 3  # positions a side that the last feature map is pooled to


class Classifier(nn.Sequential):
    """Blocks of convolution, BatchNorm, ReLU and max-pool, two linear layers; `(B, C, H, W)` to logits `(B, K)`."""

    def __init__(self, channels: int, classes: int, widths: list[int], hidden: int) -> None:
        blocks: list[nn.Module] = []
        for before, width in zip([channels, *widths], widths, strict=False):
            blocks += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
        head = [nn.Flatten(), nn.Linear(widths[-1] * _GRID**2, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(_GRID), *head)

    def classify(self, images: Tensor) -> Tensor:
        """Return logits of images in [0, 1], centred first."""
        return self(images * 2 - 1)
