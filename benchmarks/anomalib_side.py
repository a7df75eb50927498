"""Run by the Python of an environment that holds anomalib: times what it does too, and prints JSON.

    python benchmarks/anomalib_side.py maps.npz

`maps.npz` has ``masks`` and ``maps`` `(N, H, W)`. Networks have random weights, so that nothing is downloaded.
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


def stfpm(side: int) -> float:
    """Return seconds of one image through STFPM's two networks to its map."""
    from anomalib.models.image.stfpm.torch_model import STFPMModel

    model = STFPMModel(layers=["layer1", "layer2", "layer3"], backbone="resnet18")
    model.eval()
    image = torch.rand(1, 3, side, side)

    @torch.no_grad()
    def run() -> None:
        model(image)

    return median_seconds(run, 15)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    given = np.load(sys.argv[1])
    seconds, value = aupro(given["masks"], given["maps"])
    found = {"aupro_seconds": seconds, "aupro": value}
    try:
        found["stfpm_seconds"] = stfpm(128)
    except Exception as error:  # its own weights may have to be downloaded
        found["stfpm_error"] = f"{type(error).__name__}: {error}"
    import anomalib

    print(json.dumps(found | {"version": anomalib.__version__}))
