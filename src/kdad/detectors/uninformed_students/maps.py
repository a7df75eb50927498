"""Anomaly maps of a student ensemble: which e and v each adds up, and how (Bergmann et al. 2020, section 3.3)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from kdad.scoring.per_pixel import PixelStats, ZScore


def regression_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return e = || mean_i mu_i - y ||^2 at each position `(B, h, w)`, y being the standardised descriptors.

    `predictions` are `(B, M, d, h, w)`, `targets` `(B, d, h, w)` (Bergmann et al. 2020, eq. 8).
    """
    return (predictions.mean(dim=1) - targets).square().sum(dim=1)


def predictive_variance(predictions: Tensor) -> Tensor:
    """Return v = mean_i ||mu_i||^2 - || mean_i mu_i ||^2 at each position `(B, h, w)`; 0 for one student.

    `predictions` are `(B, M, d, h, w)` (Bergmann et al. 2020, eq. 9).
    """
    # The same number as the difference of two large ones, without its cancellation.
    return (predictions - predictions.mean(dim=1, keepdim=True)).square().sum(dim=2).mean(dim=1)


def fuse_maps(maps: list[tuple[Tensor, ZScore | PixelStats]], scales: int) -> Tensor:
    """Return the sum of normalised maps `(N, h, w)` divided by the number of scales.

    For e and v of each receptive field this is the mean over scales of (e - e_mu) / e_sigma + (v - v_mu) / v_sigma
    (Bergmann et al. 2020, eq. 10 and 11).
    """
    return sum(constants.normalise(values) for values, constants in maps) / scales


def spread_grid(maps: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return maps `(N, h, w)`, known at every `stride`-th pixel, linearly interpolated to `size` (H, W).

    Pixel (i * stride, j * stride) keeps the value at (i, j); beyond the last known row and column values are repeated.
    """
    if stride == 1:
        return maps
    known = [(side - 1) * stride + 1 for side in maps.shape[1:]]
    dense = F.interpolate(maps[:, None], known, mode="bilinear", align_corners=True)
    return F.pad(dense, (0, size[1] - known[1], 0, size[0] - known[0]), mode="replicate")[:, 0]


#: Of every receptive field.
_ADDED = {"combined": ("e", "v"), "regression_error": ("e",), "predictive_variance": ("v",)}


def every_part(fields: Sequence[int]) -> list[str]:
    """Return the names of e and v of these receptive fields."""
    return [f"{part}_p{field}" for field in fields for part in ("e", "v")]


def parts_of(method: str, fields: Sequence[int]) -> list[str]:
    """Return which of them a map adds up, such as ``combined`` or ``combined_p17``.

    None for a map of one receptive field where there is no other, since ``combined`` is the same.
    """
    kind, _, only = method.partition("_p") if method.startswith("combined_p") else (method, "", "")
    if only and len(fields) == 1:
        return []
    chosen = [field for field in fields if not only or field == int(only)]
    return [f"{part}_p{field}" for field in chosen for part in _ADDED[kind]]


def images_in(pixels: int, size: tuple[int, int]) -> int:
    """Return how many images of `size` (H, W) a batch of about so many pixels has, at least one."""
    return max(pixels // (size[0] * size[1]), 1)
