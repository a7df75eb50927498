"""Filters, upsampling, scores and patch models in torch, beside the libraries that do the same, in turns, one thread.

Prints a table of milliseconds. ``python benchmarks/bench_maps.py``; a minute.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import interpolate

from kdad.detectors.baselines.parameters import (
    MemoryBankOptions,
    NearestCentreOptions,
    PatchSvmOptions,
    PositionGaussianOptions,
)
from kdad.detectors.baselines.patch_models import new_patch_model
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import (
    clip_peaks,
    elliptic_element,
    gaussian_filter,
    grey_opening,
    smooth_all,
    upsample,
)
from timing import Work, in_turns

_MAPS, _SIDES, _CHANNELS = 64, (128, 256), 448


def map_works(side: int) -> Iterator[tuple[str, Work, Work]]:
    """Yield what is done to 64 maps, by a library and by torch."""
    rng = np.random.default_rng(0)
    maps = rng.gamma(0.5, size=(_MAPS, side, side)).astype(np.float32)
    tensors, small = torch.from_numpy(maps), torch.rand(_MAPS, side // 4, side // 4)
    element, count = elliptic_element(3)[None], round(0.01 * side**2)

    def clip(values: np.ndarray) -> np.ndarray:
        return np.minimum(values, np.quantile(values, 0.99, axis=(1, 2), keepdims=True).astype(np.float32))

    def smooth() -> None:
        for start in range(0, _MAPS, 32):
            filtered = ndimage.gaussian_filter(clip(maps[start : start + 32]), (0, 4, 4))
            ndimage.grey_opening(filtered, footprint=element)

    steps = SmoothingParameters(clip_quantile=0.99, gaussian_sigma=4.0, opening_size=3)
    yield "clip at .99 (NumPy)", lambda: clip(maps), lambda: clip_peaks(tensors, 0.99)
    yield (
        "Gaussian, sigma 4 (SciPy)",
        lambda: ndimage.gaussian_filter(maps, (0, 4, 4)),
        lambda: gaussian_filter(tensors, 4.0),
    )
    for size in (3, 7):
        yield (
            f"opening of {size} (SciPy)",
            lambda size=size: ndimage.grey_opening(maps, footprint=elliptic_element(size)[None]),
            lambda size=size: grey_opening(tensors, size),
        )
    yield "all three", smooth, lambda: smooth_all(maps, steps)
    yield (
        "upsampling by 4 (`interpolate`)",
        lambda: interpolate(small[:, None], (side, side), mode="bilinear"),
        lambda: upsample(small, (side, side)),
    )
    yield (
        "mean of the highest .01 (NumPy)",
        lambda: [np.partition(one, -count, axis=None)[-count:].mean() for one in maps],
        lambda: ImageScore("map", "map_top_mean", 0.01).of_maps(tensors),
    )


def patch_works() -> Iterator[tuple[str, Work, Work]]:
    """Yield how the patches of one image are scored, 4,096 of 448 channels, by a library and by torch."""
    rng = np.random.default_rng(0)
    known, patches = (rng.gamma(1.0, size=(count, _CHANNELS)).astype(np.float32) for count in (10_000, 4096))
    tensors = torch.from_numpy(patches)[None]

    def model(options, arrays: dict[str, np.ndarray]):
        made = new_patch_model(options)
        made.take(arrays)
        return made

    bank = model(MemoryBankOptions(), {"patches": known})
    library = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known)
    yield "memory bank of 10,000 (scikit-learn)", lambda: library.kneighbors(patches), lambda: bank.score(tensors)
    few = known[:10]
    centres = model(NearestCentreOptions(), {"centres": few})
    yield (
        "10 centres (scikit-learn)",
        lambda: euclidean_distances(patches, few).min(axis=1),
        lambda: centres.score(tensors),
    )
    vectors, gamma = known[:300].astype(np.float64), np.array([1 / (_CHANNELS * known.var())])
    weights, intercept = np.full(300, 0.1), np.array([-15.0])
    arrays = {"support_vectors": vectors, "weights": weights, "intercept": intercept, "gamma": gamma}
    svm = model(PatchSvmOptions(), arrays)
    yield (
        "one-class SVM, 300 support vectors (scikit-learn)",
        lambda: rbf_kernel(patches, vectors, gamma.item()) @ weights + intercept,
        lambda: svm.score(tensors),
    )
    mean, inverse = rng.normal(size=(4096, 64)), np.tile(np.eye(64), (4096, 1, 1))
    gaussian = model(PositionGaussianOptions(), {"channels": np.arange(64), "mean": mean, "inverse": inverse})

    def mahalanobis() -> np.ndarray:
        offset = patches[None, :, :64] - mean
        return np.sqrt(np.einsum("bpc,pcd,bpd->bp", offset, inverse, offset, optimize=True))

    yield "Gaussian at each position, 64 channels (NumPy)", mahalanobis, lambda: gaussian.score(tensors)


def row(name: str, library: Work, torch_work: Work) -> str:
    """Return a line of the table."""
    before, after = in_turns({"library": library, "torch": torch_work}, rounds=5).values()
    return f"| {name} | {1000 * before:.1f} | {1000 * after:.1f} | {before / after:.1f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        for side in _SIDES:
            for work in map_works(side):
                print(row(f"{work[0]}, {side} px", *work[1:]), flush=True)
        for work in patch_works():
            print(row(*work), flush=True)
