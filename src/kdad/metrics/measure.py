"""The one measurement of scores and maps, whatever system made them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kdad.metrics.ground_truth import GroundTruth, measured_pair
from kdad.metrics.names import METRICS, PIXEL_METRICS
from kdad.metrics.pixel_ranking import (
    ProCurve,
    mkd_protocol_auroc,
    pixel_ap,
    pixel_auroc,
    pixel_roc,
    pro_curve,
    rank_pixels,
)
from kdad.metrics.ranking import detection_metrics, image_auroc
from kdad.scoring.parameters import MeasuringParameters
from kdad.seeding import numpy_generator

#: Into which `PixelCurves.quantiles` divide pixels.
BINS = 1024

_PROTOCOL = "pixel_auroc_mkd_protocol"


@dataclass(frozen=True)
class PixelCurves:
    """Thinned curves over all pixels of a method's maps: ROC as false and true positive rates, and PRO.

    `quantiles` divide all pixels by value into 1,024 parts of the same number; `pro_by_kind` are areas of PRO curves.
    """

    roc: tuple[np.ndarray, np.ndarray]
    pro: ProCurve
    quantiles: np.ndarray
    pro_by_kind: dict[str, float] = field(default_factory=dict)


def measure_pixels(
    truth: GroundTruth,
    maps: np.ndarray,
    raw_maps: np.ndarray,
    gaussian_sigma: float,
    max_fpr: float,
    kinds: np.ndarray | None = None,
) -> tuple[dict[str, float | None], PixelCurves]:
    """Return `PIXEL_METRICS` of `maps` `(N, H, W)` against the masks, None alone for what is undefined, and curves.

    The MKD protocol has filters of its own, so it starts from `raw_maps` and takes the method's `gaussian_sigma`; it
    is of the model's size, as published. `kinds` `(N,)` are the images', where PRO is wanted by kind.
    """
    ranking = rank_pixels(*measured_pair(truth, maps))
    overlap = pro_curve(ranking, max_fpr)
    values = (
        pixel_auroc(ranking),
        pixel_ap(ranking),
        overlap.area,
        None
        if undefined_metrics(truth)
        else mkd_protocol_auroc(truth.masks, raw_maps, gaussian_sigma, regions=truth.regions),
    )
    edges = ranking.quantiles(np.linspace(0, 1, BINS + 1)[1:-1])
    marked = np.array([mask.any() for mask in ranking.masks])
    by_kind = {
        str(kind): pro_curve(ranking, max_fpr, kinds == kind).area
        for kind in ([] if kinds is None else np.unique(kinds[marked]))
    }
    curves = PixelCurves(pixel_roc(ranking), overlap.thinned(), edges, by_kind)
    return dict(zip(PIXEL_METRICS, values, strict=True)), curves


def undefined_metrics(truth: GroundTruth) -> dict[str, str]:
    """Return which of `PIXEL_METRICS` cannot be measured where others can, and why."""
    anomalous = np.flatnonzero(truth.masks.any(axis=(1, 2)))
    if not len(anomalous):
        height, width = truth.masks.shape[1:]
        return {_PROTOCOL: f"no mask is left at {height} x {width} pixels"}
    if all(
        (truth.masks[at] if truth.regions is None else truth.masks[at][truth.regions[at]]).all() for at in anomalous
    ):
        return {_PROTOCOL: "it is of masked images alone, and their masks leave no normal pixel"}
    return {}


#: Of the bootstrap: the interval of the same scores is the same, whichever run asks.
_BOOTSTRAP_SEED = 0
_OF_GROUPS = ("image_auroc", "image_auroc_low", "image_auroc_high", "image_ap")
#: What is said in words, or None.
_WORDS = {"localisation_left_out", "metrics_left_out", "localisation_resolution"}


@dataclass(frozen=True)
class MapSet:
    """Maps of the test images by one method, `(N, H, W)` smoothed and raw, and the Gaussian's sigma in pixels."""

    smoothed: np.ndarray
    raw: np.ndarray
    gaussian_sigma: float


def measure(
    test: pd.DataFrame, maps: dict[str, MapSet], truth: GroundTruth, measuring: MeasuringParameters
) -> tuple[dict[str, Any], dict[str, PixelCurves]]:
    """Return how test scores rank, how the threshold decides and how maps localise; and curves of each method's pixels.

    `test` has a row a test image (label, kind, score, decision). Pixel metrics on top are those of the first method;
    None without masks, and ``localisation_left_out`` says why (then there are no curves); of single ones
    ``metrics_left_out`` does.
    """
    localisation: dict[str, dict[str, float | None]] = {method: dict.fromkeys(PIXEL_METRICS) for method in maps}
    curves: dict[str, PixelCurves] = {}
    at = truth.positions
    for method, of_method in maps.items() if truth.reason is None else ():
        kinds = test["kind"].to_numpy()[at] if method == next(iter(maps)) else None
        localisation[method], curves[method] = measure_pixels(
            truth, of_method.smoothed[at], of_method.raw[at], of_method.gaussian_sigma, measuring.max_fpr, kinds
        )
    first = next(iter(localisation.values()), dict.fromkeys(PIXEL_METRICS))
    undefined = undefined_metrics(truth) if maps and truth.reason is None else {}
    measured = {
        **measure_detection(test, measuring),
        **first,
        "by_kind": measure_kinds(test, next(iter(curves.values())).pro_by_kind if curves else {}),
        "localisation": localisation,
        "localisation_left_out": truth.reason if maps else "the system makes no maps",
        "metrics_left_out": "; ".join(f"{name}: {why}" for name, why in undefined.items()) or None,
        "localisation_resolution": truth.resolution if maps and truth.reason is None else None,
        "anomalous_images_without_mask": truth.unmasked,
        "anomalous_images_with_empty_mask": truth.empty,
    }
    return measured, curves


def measure_categories(
    test: pd.DataFrame,
    maps: dict[str, MapSet],
    truth: GroundTruth,
    measuring: MeasuringParameters,
    thresholds: dict[str, float],
) -> dict[str, dict[str, float | int | None]]:
    """Return the numbers that `measure` finds for each category of a united set, and their ``mean``.

    `test` has the column ``member``. Decisions are by the category's own threshold.
    """
    found = {}
    for name, rows in test.groupby("member", sort=False).groups.items():
        at = np.asarray(rows)
        own = test.loc[at].assign(decision=(test.loc[at, "score"] > thresholds[name]).astype(int))
        own = own.drop(columns=["group_score", "group_decision"], errors="ignore")  # by the common threshold
        own_maps = {method: MapSet(one.smoothed[at], one.raw[at], one.gaussian_sigma) for method, one in maps.items()}
        measured, _ = measure(own.reset_index(drop=True), own_maps, truth.of(at), measuring)
        found[name] = numbers_of(measured)
    known = pd.DataFrame(found).astype(float)
    means = {name: float(known.loc[name].mean()) for name in METRICS if name in known.index}
    return found | {"mean": {name: None if np.isnan(value) else value for name, value in means.items()}}


def numbers_of(measured: dict[str, Any]) -> dict[str, float | int | None]:
    """Return what `measure` found that is a number; None where it is undefined."""
    measured = {name: value for name, value in measured.items() if name not in _WORDS}
    return {name: value for name, value in measured.items() if isinstance(value, int | float | None)}


def measure_detection(test: pd.DataFrame, measuring: MeasuringParameters) -> dict[str, float | int | None]:
    """Return ranking metrics with their interval, the rates of the decisions, and how many images there are.

    Where `test` has the column ``group``, the interval is by groups, and so is one more rate. With ``group_score`` and
    ``group_decision`` groups are measured as images are; one is anomalous where one of its images is.
    """
    labels, decisions = test["label"].to_numpy(), test["decision"].to_numpy()
    generator = numpy_generator(_BOOTSTRAP_SEED, "bootstrap")
    groups = test["group"].to_numpy(dtype=str) if "group" in test else None
    return {
        **detection_metrics(labels, test["score"].to_numpy(), measuring.bootstrap_resamples, generator, groups),
        **({} if groups is None else _measure_groups(test, measuring)),
        "false_positive_rate": _share(decisions[labels == 0]),
        "true_positive_rate": _share(decisions[labels == 1]),
        "test_normal": int((labels == 0).sum()),
        "test_anomalous": int((labels == 1).sum()),
    }


def _measure_groups(test: pd.DataFrame, measuring: MeasuringParameters) -> dict[str, float | int | None]:
    """Return how many groups of normal images there are, and of which share an image exceeds the threshold.

    Where groups are decided on, their ranking and rates stand in the place of that.
    """
    if "group_score" not in test:
        exceed = test[test["label"] == 0].groupby("group")["decision"].max().to_numpy()
        return {"group_false_positive_rate": _share(exceed), "test_normal_groups": len(exceed)}
    groups = test.groupby("group")[["label", "group_score", "group_decision"]].max().dropna()
    labels, decisions = groups["label"].to_numpy(), groups["group_decision"].to_numpy()
    generator = numpy_generator(_BOOTSTRAP_SEED, "bootstrap")
    ranked = detection_metrics(labels, groups["group_score"].to_numpy(), measuring.bootstrap_resamples, generator)
    return {
        **{f"group{name.removeprefix('image')}": ranked[name] for name in _OF_GROUPS},
        "group_false_positive_rate": _share(decisions[labels == 0]),
        "group_true_positive_rate": _share(decisions[labels == 1]),
        "test_normal_groups": int((labels == 0).sum()),
        "test_anomalous_groups": int((labels == 1).sum()),
    }


def measure_kinds(test: pd.DataFrame, pro_by_kind: dict[str, float]) -> dict[str, dict[str, float | int | None]]:
    """Return for each kind of defect its images, how many the threshold finds, and AUROC and PRO of it alone.

    AUROC ranks the kind's images among all normal ones; None where none is tested. PRO is None without masks.
    """
    normal = test[test["label"] == 0]
    found = {}
    for kind, rows in test[test["label"] == 1].groupby("kind"):
        both = pd.concat([normal, rows])
        found[str(kind)] = {
            "images": len(rows),
            "found": int(rows["decision"].sum()),
            "image_auroc": image_auroc(both["label"].to_numpy(), both["score"].to_numpy()) if len(normal) else None,
            "pro_auc": pro_by_kind.get(str(kind)),
        }
    return found


def _share(decisions: np.ndarray) -> float | None:
    return float(decisions.mean()) if len(decisions) else None
