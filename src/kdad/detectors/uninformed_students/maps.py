"""Anomaly maps of a student ensemble: regression error and predictive variance (Bergmann et al. 2020, section 3.3)."""

from torch import Tensor
from torch.nn import functional as F

from kdad.scoring.per_pixel import PixelStats
from kdad.scoring.z_score import ZScore


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
