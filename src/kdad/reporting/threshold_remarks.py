"""What a run's figures say in words: verdicts with intervals, and what is odd about a threshold."""

from typing import Any

import numpy as np

from kdad.errors import first_of
from kdad.metrics.names import METRICS
from kdad.parameters.written_names import printable
from kdad.scoring.threshold import Threshold

#: From here on images are ranked well, ...
_RANKED_WELL = 0.9
#: ... and a threshold that is wrong about more than so many of either kind is not where the ranking could have it.
_HALF = 0.5
_SEVERAL = 2  # kinds of defects: one is the whole
_CALIBRATE = "set another with `kedro run --pipeline=calibration`"


def threshold_remarks(metrics: dict[str, Any]) -> list[str]:
    """Return remarks on the threshold of a run's metrics, none where promise, decisions and ranking agree."""
    if not metrics.get("threshold"):
        return []
    threshold = Threshold.model_validate(metrics["threshold"])
    found = [
        _missed(metrics),
        _out_of_reach(threshold),
        _unlike_validation(threshold, metrics),
        *_ranked_but_not_decided(metrics),
    ]
    return [remark for remark in found if remark is not None]


def counted(rate: float | None, images: int) -> str:
    """Return a rate with its counts: ``3 of 30 (10.0 %)``; a dash without images."""
    return "-" if rate is None else f"{round(rate * images)} of {images} ({100 * rate:.1f} %)"


def missed_most(kinds: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the kinds of defects with what was found of each, those that are missed most first."""
    return sorted(kinds.items(), key=lambda each: (each[1]["found"] / each[1]["images"], each[0]))


def interval_of(threshold: Threshold) -> str:
    """Return the interval of a threshold's false positive rate in percent; a dash for one of an older version."""
    low, high = threshold.false_positive_rate_low, threshold.false_positive_rate_high
    return "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def metric_tiles(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what pages say first of a run's metrics, as far as it has them: name, value, and its interval."""
    tiles = []
    low, high = metrics.get("image_auroc_low"), metrics.get("image_auroc_high")
    interval = "" if low is None else f"95 % interval {low:.3f} to {high:.3f}"
    for key in ("image_auroc", "image_ap", "group_auroc", "pixel_auroc", "pro_auc"):
        if metrics.get(key) is not None:
            note = interval if key == "image_auroc" else ""
            tiles.append((METRICS[key].label, METRICS[key].text(metrics[key]), note))
    groups = metrics.get("test_normal_groups")
    for key, what, images in (
        ("true_positive_rate", "anomalous images found", metrics.get("test_anomalous")),
        ("group_true_positive_rate", "anomalous groups found", metrics.get("test_anomalous_groups")),
        ("false_positive_rate", "false alarms", metrics.get("test_normal")),
        ("group_false_positive_rate", "groups with a false alarm", groups),
    ):
        rate = metrics.get(key)
        if rate is None or not images:
            continue
        count = round(rate * images)
        rest = f"{100 * rate:.1f} %"
        if not groups or key.startswith("group"):  # images of one group are no independent draws
            low, high = rate_intervals(images)[count]
            rest += f", 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        tiles.append((what, f"{count} of {images}", rest))
    return tiles


def promise_tile(threshold: Threshold) -> tuple[str, str, str]:
    """Return what pages say of the rate that a threshold promises."""
    promised = f"{100 * threshold.expected_false_positive_rate:.1f} %"
    return "false alarms promised", promised, f"95 % interval {interval_of(threshold)}"


def binomial_interval(counts: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact 95 % intervals of rates, `counts` `(K,)` of `total` independent images (Clopper, Pearson 1934).

    `scipy.stats.binomtest` gives the same, one count in 10 ms.
    """
    from scipy.special import betaincinv  # NaN at either end

    low, high = betaincinv(counts, total - counts + 1, 0.025), betaincinv(counts + 1, total - counts, 0.975)
    return np.nan_to_num(low), np.nan_to_num(high, nan=1.0)


def rate_intervals(total: int) -> list[list[float]]:
    """Return the exact 95 % interval of each rate from 0 of `total` to all of them; of none, nothing is known."""
    return np.stack(binomial_interval(np.arange(total + 1), total), axis=1).round(6).tolist() if total else [[0.0, 1.0]]


def _missed(metrics: dict[str, Any]) -> str | None:
    kinds = metrics.get("by_kind") or {}
    missed = [
        f"{printable(kind)} ({of['found']} of {of['images']} found)"
        for kind, of in missed_most(kinds)
        if of["found"] < _HALF * of["images"]
    ]
    if len(kinds) < _SEVERAL or not missed:
        return None
    return f"most images are missed of {len(missed)} of the {len(kinds)} kinds of defects: {first_of(missed, 5)}"


def _out_of_reach(threshold: Threshold) -> str | None:
    if not threshold.draws_missing:
        return None
    few, wanted = threshold.draws, 1 - threshold.wanted  # type: ignore[operator]
    what, more = ("group", "groups of normal images") if threshold.group_scores else ("score", "normal images")
    said = (
        f"{few} normal {what}{'s' * (few > 1)} cannot promise a false positive rate of {wanted:.1%}: the highest of "
        f"them promises {threshold.expected_false_positive_rate:.1%} ({interval_of(threshold)}); "
    )
    return f"{said}hold out {threshold.draws_missing} more, by more {more} or a larger dataset.validation_fraction"


def _unlike_validation(threshold: Threshold, metrics: dict[str, Any]) -> str | None:
    rate, images, what = metrics.get("false_positive_rate"), metrics.get("test_normal"), "normal test images"
    those = "groups" if threshold.group_scores else "images"
    if threshold.group_scores:
        rate, images = metrics.get("group_false_positive_rate"), metrics.get("test_normal_groups")
        what = "groups of normal test images"
    expected = threshold.exceeding_range(images) if rate is not None and images else None
    if expected is None or expected[0] <= round(rate * images) <= expected[1]:
        return None
    rare = "more" if round(rate * images) > expected[1] else "fewer"
    causes = (
        "the test images were taken otherwise than the validation ones (light, camera, batch), some of them are not "
        "normal, or validation images are near copies of training images, so that they score lower than new ones"
        if rare == "more"
        else "the validation images differ from the test images, or some of them are not normal"
    )
    return (
        f"{counted(rate, images)} {what} exceed the threshold, {rare} than the {expected[0]} to "
        f"{expected[1]} of {those} like the validation ones (95 %; one draw of "
        f"twenty is outside by chance). Likely causes, the likeliest first: {causes}"
    )


def _ranked_but_not_decided(metrics: dict[str, Any]) -> list[str]:
    auroc = metrics.get("image_auroc")
    if auroc is None or auroc < _RANKED_WELL:
        return []
    ranked = f"images are ranked well (AUROC {auroc:.3f}), but "
    remarks = []
    if metrics["true_positive_rate"] < _HALF:
        found = counted(metrics["true_positive_rate"], metrics["test_anomalous"])
        remarks.append(f"{ranked}the threshold finds {found} anomalous ones: it is too high for them; {_CALIBRATE}")
    if metrics["false_positive_rate"] > _HALF:
        found = counted(metrics["false_positive_rate"], metrics["test_normal"])
        remarks.append(f"{ranked}{found} normal ones exceed the threshold: it is too low for them; {_CALIBRATE}")
    return remarks
