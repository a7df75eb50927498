"""Metrics: the key of each in results, the label that people read, and how many digits of it are shown."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric; `kind` says whether it ranks images, groups or pixels, or rates decisions."""

    key: str
    kind: str
    title: str
    digits: int = 4

    @property
    def label(self) -> str:
        """The title, with what it is of where that alone does not say it."""
        return self.title if self.title == "PRO" or self.kind == "decisions" else f"{self.kind} {self.title}"

    def text(self, value: float | None) -> str:
        """Return a value with the metric's digits; a dash for what was not measured."""
        return "-" if value is None or math.isnan(value) else f"{value:.{self.digits}f}"


METRICS = {
    metric.key: metric
    for metric in (
        Metric("image_auroc", "image", "AUROC"),
        Metric("image_ap", "image", "average precision"),
        Metric("image_f1_max", "image", "F1, best threshold"),
        Metric("group_auroc", "group", "AUROC"),
        Metric("group_ap", "group", "average precision"),
        Metric("pixel_auroc", "pixel", "AUROC"),
        Metric("pixel_ap", "pixel", "average precision"),
        Metric("pro_auc", "pixel", "PRO"),
        Metric("pixel_auroc_mkd_protocol", "pixel", "AUROC, MKD protocol"),
        Metric("false_positive_rate", "decisions", "false positive rate"),
        Metric("group_false_positive_rate", "decisions", "false positive rate of groups"),
        Metric("true_positive_rate", "decisions", "true positive rate"),
        Metric("group_true_positive_rate", "decisions", "true positive rate of groups"),
    )
}
#: What is measured of each method's maps.
PIXEL_METRICS = tuple(key for key, metric in METRICS.items() if metric.kind == "pixel")
#: What comparisons show, in this order; the first three have a panel each where there is room for no more.
COMPARED = ("image_auroc", "pixel_auroc", "pro_auc", "pixel_auroc_mkd_protocol")
MAIN = COMPARED[:3]


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Return the label of each key."""
    return {key: METRICS[key].label for key in keys}
