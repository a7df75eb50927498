"""Run by the Python of an environment that holds anomalib: times what it does too, and prints JSON.

    python benchmarks/anomalib_side.py maps.npz THREADS

`maps.npz` has ``masks`` and ``maps`` `(N, H, W)`. Its networks are not timed: their weights are a download.
"""

import json
import statistics
import sys
import time

import numpy as np
import torch


def median_seconds(work, rounds: int = 5) -> float:
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def aupro(masks: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
    """Return seconds and value of anomalib's area under the PRO curve to a false positive rate of 0.3."""
    from anomalib.metrics.aupro import _AUPRO

    def compute() -> float:
        metric = _AUPRO(fpr_limit=0.3)
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64)))
        return float(metric.compute())

    return median_seconds(compute, 3), compute()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    given = np.load(sys.argv[1])
    seconds, value = aupro(given["masks"], given["maps"])
    found = {"aupro_seconds": seconds, "aupro": value}
    import anomalib

    print(json.dumps(found | {"version": anomalib.__version__}))
