"""The mean training image: what integrated gradients begin at."""

import torch
from torch import Tensor

from kdad.features.seen import SeenImages
from kdad.scoring.position import measured_rows

_KEPT = "mean_image"


def measure_mean_image(seen: SeenImages, batch_size: int) -> Tensor:
    """Return the mean `(3, H, W)` of the training images, of at most 512 of them; float32 in [0, 1]."""
    rows = measured_rows(seen.split, "train")
    sums = [seen.batch(rows[i : i + batch_size]).double().sum(0) for i in range(0, len(rows), batch_size)]
    return (torch.stack(sums).sum(0) / len(rows)).float()


def mean_image_state(image: Tensor | None) -> dict[str, Tensor]:
    """Return the image as a tensor by name, to be kept, where there is one."""
    return {} if image is None else {_KEPT: image}


def take_mean_image(state: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Take the image out of what was kept; raises `ValueError` for one that is missing, or not of `size` (H, W)."""
    image = state.pop(_KEPT, None)
    if image is None or tuple(image.shape) != (3, *size):
        shape = "none" if image is None else tuple(image.shape)
        raise ValueError(f"its mean image is {shape}, and integrated gradients need one of {(3, *size)}")
    return image
