"""Exact PRO: against a plain loop over thresholds, and at MVTec AD's full size, 83 maps of 900 x 900.

Run as a program (Linux), this file prints the peak resident memory in GB before and after the full-size case.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from kdad.metrics.pixel_ranking import pro_curve, rank_pixels


def make_stack(images: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of up to three discs in three of four images, and upsampled noise that is higher on the discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    masks = np.zeros((images, side, side), dtype=bool)
    maps = np.empty((images, side, side), dtype=np.float32)
    coarse = side // 16 + 1
    for position, (mask, anomaly_map) in enumerate(zip(masks, maps, strict=True)):
        noise = rng.gamma(2.0, size=(coarse, coarse)).astype(np.float32)
        anomaly_map[:] = ndimage.zoom(noise, 16, order=1, mode="nearest", grid_mode=True)[:side, :side]
        if position % 4:
            for _ in range(rng.integers(1, 4)):
                row, column = rng.integers(side // 8, side - side // 8, 2)
                mask |= (rows - row) ** 2 + (columns - column) ** 2 < rng.integers(side // 40, side // 8) ** 2
            anomaly_map += 3 * mask
    return masks, maps


def pro_by_thresholds(masks: np.ndarray, maps: np.ndarray, max_fpr: float = 0.3) -> float:
    """The definition with one pass over the maps for each distinct value, until the limit is passed."""
    labels = np.zeros(masks.shape, dtype=np.int64)
    for position, mask in enumerate(masks):
        found, _ = ndimage.label(mask, np.ones((3, 3)))
        labels[position] = np.where(mask, found + labels.max(), 0)
    areas = np.bincount(labels.ravel())[1:]
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = np.bincount(labels[maps >= threshold], minlength=areas.size + 1)
        fpr.append(found[0] / (~masks).sum())
        pro.append((found[1:] / areas).mean())
        if fpr[-1] > max_fpr:
            break
    inside = np.array(fpr) < max_fpr
    x = np.append(np.array(fpr)[inside], max_fpr)
    return float(np.trapezoid(np.append(np.array(pro)[inside], np.interp(max_fpr, fpr, pro)), x) / max_fpr)


def pro_auc(masks: np.ndarray, maps: np.ndarray) -> float:
    """Return the area under the PRO curve, pixels sorted for it."""
    return pro_curve(rank_pixels(masks, maps)).area


def test_against_thresholds(benchmark) -> None:
    masks, maps = make_stack(4, 64)
    area = benchmark(pro_auc, masks, maps)
    started = time.perf_counter()
    reference = pro_by_thresholds(masks, maps)
    seconds = time.perf_counter() - started
    np.testing.assert_allclose(area, reference, atol=1e-9)
    benchmark.extra_info |= {"reference_seconds": seconds, "ratio": seconds / benchmark.stats.stats.median}


def test_full_size(benchmark) -> None:
    masks, maps = make_stack(83, 900)
    benchmark.pedantic(pro_auc, (masks, maps), rounds=3)
    if sys.platform == "linux":
        # A process of its own: a peak can only rise, and this one holds whatever ran before.
        measured = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True).stdout
        benchmark.extra_info |= json.loads(measured)


def _peak_gb() -> float:
    # Not getrusage: its maximum is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    stack = make_stack(83, 900)
    before = _peak_gb()
    pro_auc(*stack)
    print(json.dumps({"peak_gb_before": before, "peak_gb": _peak_gb()}))
