"""A training's page of few small images, whose scores were drawn by hand."""

from typing import Any

import numpy as np
import pandas as pd

from kdad.metrics.measure import measure_detection, measure_kinds
from kdad.reporting.curves import draw_loss_curves
from kdad.reporting.html import svg_of
from kdad.reporting.training_report import TestPictures
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.threshold import quantile_threshold

SIDE = 24
#: Of the test images: kind and score. Some tie, and the threshold is one of them.
TEST = [
    *[("good", score) for score in (0.5, 0.75, 1.0, 1.0, 1.25, 2.0, 2.5)],
    *[("broken_large", score) for score in (0.75, 2.0, 3.0, 3.5)],
    *[("</script><b>", score) for score in (1.25, 2.5, 4.0)],
]
VALIDATION = [0.4, 0.6, 0.8, 1.0, 2.0]
THRESHOLD = 2.0  # the highest of five validation scores


def scores_table() -> pd.DataFrame:
    """Return the table of scores, validation images first."""
    rows = [(f"validation/{number}", 0, "good", "validation", score) for number, score in enumerate(VALIDATION)]
    rows += [(f"{kind}/{n:02d}.png", int(kind != "good"), kind, "test", score) for n, (kind, score) in enumerate(TEST)]
    table = pd.DataFrame(rows, columns=["id", "label", "kind", "split", "score"])
    return table.assign(threshold=THRESHOLD, decision=(table["score"] > THRESHOLD).astype(int))


def report(maps: bool = True) -> dict[str, Any]:
    """Return what `render_training_report` takes; a defect is a bright square, where the map is hot as well."""
    scores = scores_table()
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    square = np.zeros((SIDE, SIDE), bool)
    square[6:12, 6:12] = True
    stack = np.stack([1 + square * label for label in test["label"]]).astype(np.float32)
    found = measure_detection(test, MeasuringParameters(bootstrap_resamples=100))
    metrics = found | {
        "by_kind": measure_kinds(test, {}),
        "localisation_left_out": None if maps else "the system makes no maps",
        "threshold": quantile_threshold(np.array(VALIDATION), 0.95).model_dump(),
        "remarks": ["look <here>"],
    }
    history = pd.DataFrame({"epoch": [0, 1], "split": "training", "term": "total", "value": [2.0, 1.0]})
    return {
        "title": "mkd: textures / brick",
        "scores": scores,
        "metrics": metrics,
        "pictures": TestPictures(
            image=lambda place: np.stack([0.25 + 0.5 * square * test["label"][place]] * 3).astype(np.float32),
            mask=lambda place: square if test["label"][place] else np.zeros_like(square),
            maps=stack if maps else None,
            limits=(1.0, 2.0) if maps else None,
            size=(SIDE, SIDE),
        ),
        "figures": {"Losses by epoch": svg_of(draw_loss_curves(history))},
        "facts": [("seed", "0"), ("command", "kedro run <x>")],
        "links": [("detector", "../detector")],
    }
