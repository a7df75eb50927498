"""How an image's score comes about by a rule for detection."""

from collections.abc import Mapping

from kdad.detectors.mkd.rule_parameters import DetectionParameters
from kdad.scoring.image_score import ImageScore
from kdad.scoring.standard import Standard

#: The names of the map that localises and of the one that is scored.
FORWARD, DETECTION = "discrepancy", "detection"


def detection_score(rule: DetectionParameters, standards: Mapping[str, Standard]) -> ImageScore:
    """Return the score: L_total, a number of the detection map, or the sum of both forward maps' by `standards`."""
    if rule.score == "total_loss":
        return ImageScore("total_loss", "raw")
    if rule.score == "both_maps_top_mean":
        return ImageScore(DETECTION, "map_top_mean", rule.top_fraction, standards)
    return ImageScore(DETECTION, rule.score, rule.top_fraction)
