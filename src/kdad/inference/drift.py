"""Whether what was judged scores as normal validation images do."""

import logging

import pandas as pd

from kdad.detectors.predictor import Predictor
from kdad.detectors.tiled import TiledPredictor
from kdad.scoring.drift import Drift, NormalReference, compare_scores

logger = logging.getLogger(__name__)


def reference_of(predictor: Predictor | TiledPredictor) -> NormalReference:
    """Return what the scores of images are compared with; by tiles, those of images that were cut alike."""
    return NormalReference(predictor.threshold, predictor.validation_scores)


def comparable_scores(judged: pd.DataFrame, reference: NormalReference) -> pd.DataFrame:
    """Return the rows of images that were judged by the reference's threshold: of tiles, or of whole images."""
    return judged[judged["threshold"] == reference.threshold.value]


def find_drift(judged: pd.DataFrame, reference: NormalReference, alpha: float) -> Drift:
    """Compare the scores of a table of predictions with a reference; where there are labels, of normal images alone."""
    rows = comparable_scores(judged, reference)
    labelled = bool(rows["label"].notna().any())
    if labelled:
        rows = rows[rows["label"] == 0]
    return compare_scores(rows["score"].to_numpy(dtype=float), reference, alpha, labelled)


def say_drift(drift: Drift, after: str = "") -> None:
    """Say in one line of the log what was found, `after` what: a warning where it has changed."""
    level = logging.WARNING if drift.verdict == "changed" else logging.INFO
    logger.log(level, "Drift%s: %s", after, drift.statement())
