"""Results of an imagined ablation: two variants, two seeds, with known differences."""

import numpy as np

from kdad.comparison.ablation_parameters import AxisParameters

AXIS = AxisParameters(
    question="Is b better than a?",
    compare_with="a",
    paper={"a": 0.5},
    paper_metric="pixel_auroc_mkd_protocol",
    variants={"a": {}, "b": {"cloner": {"loss": {"value_weight": 2}}}},
)
LABELS = np.array([0] * 30 + [1] * 30)


def result(variant: str, seed: int, gap: float, axis: str = "form") -> dict:
    """Return a finished result whose anomalous scores lie `gap` standard deviations above the normal ones."""
    scores = np.random.default_rng(seed).normal(size=60) + gap * LABELS
    auroc = 0.5 + 0.1 * gap + 0.01 * seed
    return {
        "axis": axis,
        "variant": variant,
        "category": "brick",
        "seed": seed,
        "status": "finished",
        "error": None,
        "metrics": {"image_auroc": auroc, "pixel_auroc": auroc, "pro_auc": None, "pixel_auroc_mkd_protocol": auroc},
        "labels": LABELS.tolist(),
        "scores": scores.tolist(),
        "train_seconds": 10.0 + seed,
        "parameters": 1000,
        "flops": 2_000_000,
    }


def results() -> list[dict]:
    """Return both variants with seeds 0 and 1; `b` is far better."""
    return [result(variant, seed, gap) for variant, gap in (("a", 0.2), ("b", 3.0)) for seed in (0, 1)]
