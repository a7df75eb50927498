"""Filters that anomaly maps pass through, each map alone."""

import numpy as np
from scipy import ndimage

from kdad.errors import InputError
from kdad.scoring.parameters import SmoothingParameters


def smooth(maps: np.ndarray, steps: SmoothingParameters) -> np.ndarray:
    """Return maps `(N, H, W)` after the steps, in the published code's order: clip, Gaussian filter, opening."""
    return grey_opening(
        gaussian_filter(clip_peaks(maps, steps.clip_quantile), steps.gaussian_sigma), steps.opening_size
    )


def clip_peaks(maps: np.ndarray, quantile: float) -> np.ndarray:
    """Return maps `(N, H, W)` with values above the `quantile` of their own map lowered to it; 1 changes nothing.

    A gradient's few extreme pixels would otherwise outshine the rest after a Gaussian filter. Raises `InputError` for a
    quantile outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise InputError(f"clip_quantile is {quantile}; it must be above 0 and at most 1 (1 clips nothing)")
    if quantile == 1:
        return maps
    return np.minimum(maps, np.quantile(maps, quantile, axis=(1, 2), keepdims=True).astype(maps.dtype))


def gaussian_filter(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Return maps `(N, H, W)` filtered by a Gaussian of standard deviation `sigma` in pixels; 0 leaves them alone.

    Borders are reflected and the kernel ends at 4 sigma. Raises `InputError` for a negative `sigma`.
    """
    if not sigma >= 0:
        raise InputError(f"gaussian_sigma is {sigma}; it must be 0 (no filter) or a positive number of pixels")
    return ndimage.gaussian_filter(maps, sigma, mode="reflect", truncate=4.0, axes=(1, 2)) if sigma else maps


def grey_opening(maps: np.ndarray, size: int) -> np.ndarray:
    """Return maps `(N, H, W)` after erosion and dilation by `elliptic_element(size)`; 0 leaves them alone.

    Bright spots that the element does not fit into are lowered to their surroundings. Thresholding the result is the
    same as the binary opening of the thresholded map. Pixels beyond the border have no say.
    """
    if size == 0:
        return maps
    # For a convex element centred on the pixel, reflected pixels are all under the element already.
    return ndimage.grey_opening(maps, footprint=elliptic_element(size)[None], mode="reflect")


def elliptic_element(size: int) -> np.ndarray:
    """Return the disc of odd diameter `size` as `(size, size)` booleans, rasterised by rows as OpenCV's ellipse is.

    3 gives the cross. Raises `InputError` when `size` is even or below 1.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"opening_size is {size}; it must be odd (0 leaves the opening out)")
    radius = size // 2
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.rint(np.sqrt(radius**2 - offsets**2))
    return np.abs(offsets)[None, :] <= half_widths[:, None]
