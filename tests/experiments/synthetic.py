"""Results of an imagined ablation: two variants, two seeds, with known differences."""

import numpy as np

from kdad.experiments.case import CaseResult
from kdad.experiments.parameters import AxisParameters

AXIS = AxisParameters(
    question="Is b better than a?",
    compare_with="a",
    paper={"a": 0.5},
    paper_metric="pixel_auroc_mkd_protocol",
    variants={"a": {}, "b": {"cloner": {"loss": {"value_weight": 2}}}},
)
LABELS = np.array([0] * 30 + [1] * 30)


def result(variant: str, seed: int, gap: float, axis: str = "form", **more) -> CaseResult:
    """Return a finished result whose anomalous scores lie `gap` standard deviations above the normal ones."""
    scores = np.random.default_rng(seed).normal(size=60) + gap * LABELS
    auroc = 0.5 + 0.1 * gap + 0.01 * seed
    known = {
        "axis": axis,
        "variant": variant,
        "category": "brick",
        "seed": seed,
        "system": "mkd",
        "status": "finished",
        "metrics": {"image_auroc": auroc, "pixel_auroc": auroc, "pro_auc": None, "pixel_auroc_mkd_protocol": auroc},
        "labels": LABELS.tolist(),
        "scores": scores.tolist(),
        "costs": {"train_seconds": 10.0 + seed, "parameters": 1000, "flops": 2_000_000, "peak_megabytes": 3.0},
    }
    return CaseResult(**known | more)


def failed(variant: str, error: str, seed: int = 0, axis: str = "form") -> CaseResult:
    """Return a result of a case that died of `error`."""
    head = {"axis": axis, "variant": variant, "category": "brick", "seed": seed, "system": "mkd"}
    return CaseResult(**head, status="failed", error=error)


def results() -> list[CaseResult]:
    """Return both variants with seeds 0 and 1; `b` is far better."""
    return [result(variant, seed, gap) for variant, gap in (("a", 0.2), ("b", 3.0)) for seed in (0, 1)]
