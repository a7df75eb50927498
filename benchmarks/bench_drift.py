"""How often drift is reported where there is none, and after how many images where there is some.

``python benchmarks/bench_drift.py`` prints a table of Markdown. A stream's scores are drawn independently, validation
ones too, and looked at as a watch does; a shift is in standard deviations of normal scores, from the first image on.
"""

import numpy as np

from kdad.scoring.drift import NormalReference, latest_look
from kdad.scoring.parameters import DriftParameters
from kdad.scoring.threshold import quantile_threshold

STREAMS, LENGTH = 1000, 2000
SHIFTED = 200  # streams, of those with a shift
PARAMETERS = DriftParameters()


def first_report(seed: int, validation: int, shift: float) -> int | None:
    """Return after how many images of a stream drift is first reported; None when it never is."""
    generator = np.random.default_rng(seed)
    normal = np.sort(generator.normal(size=validation))
    reference = NormalReference(quantile_threshold(normal, 0.95), normal)
    stream = generator.normal(shift, 1, LENGTH)
    step = PARAMETERS.window // 2
    for count in range(step, LENGTH + 1, step):
        found = latest_look(stream[max(count - 3 * step, 0) : count], count, reference, PARAMETERS)
        if found is not None and found.verdict == "changed":
            return count
    return None


def main() -> None:
    """Print a row for each number of validation images and each shift."""
    print(f"alpha {PARAMETERS.alpha}, window {PARAMETERS.window}, {LENGTH} images a stream\n")
    print("| held out | shift, sd | streams | reported | median image of the report |\n|---|---|---|---|---|")
    for validation in (20, 100):
        for shift, streams in ((0.0, STREAMS), (0.5, SHIFTED), (1.0, SHIFTED), (2.0, SHIFTED)):
            found = [first_report(seed, validation, shift) for seed in range(streams)]
            reports = [count for count in found if count is not None]
            middle = f"{np.median(reports):.0f}" if reports else ""
            print(f"| {validation} | {shift:g} | {streams} | {len(reports) / streams:.1%} | {middle} |", flush=True)


if __name__ == "__main__":
    main()
