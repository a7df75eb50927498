"""Tables of an axis: every variant with its spread and cost beside the paper's figure; paired differences and tests."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from kdad.experiments.case import CaseResult
from kdad.experiments.parameters import AxisParameters
from kdad.metrics.names import COMPARED
from kdad.metrics.ranking import draw_groups, image_aurocs, pixel_aurocs

COSTS = {"train_seconds": "training, s", "parameters": "weights", "flops": "FLOPs an image"}
PAIR_COLUMNS = ["axis", "variant", "reference", "metric", "difference", "low", "high", "p", "p_holm", "real", "cases"]
Place = tuple[str, int]  # category and seed
#: Histograms `(normal, anomalous)` of a result's maps, or None without masks.
ReadHistograms = Callable[[CaseResult], tuple[np.ndarray, np.ndarray] | None]


def axis_table(tidy: pd.DataFrame, axis: str, block: AxisParameters) -> pd.DataFrame:
    """Return a row for each variant of an axis, in the axis's order.

    Columns: variant, seeds, and for each metric its mean and sd over seeds (categories are averaged within a seed
    first; a seed that lacks one is left out, as a mean over fewer would not compare); image_auroc_low and _high when
    one category and seed leave no spread; `paper` and `difference` where the paper has a figure of ``paper_metric``;
    the costs' means.
    """
    rows = tidy[tidy["axis"] == axis]
    by_seed = _average_categories(rows)
    mean, sd = (by_seed.groupby(["variant", "metric"]).agg(how).unstack() for how in ("mean", "std"))
    finished = set(rows["variant"])
    table = pd.DataFrame({"variant": [name for name in block.present if name in finished]})
    seeds = by_seed.groupby(["variant", "metric"]).size().groupby("variant").max()
    table["seeds"] = table["variant"].map(seeds).fillna(0).astype(int)
    for metric in [name for name in COMPARED if name in mean]:
        table[metric] = table["variant"].map(mean[metric])
        table[f"{metric}_sd"] = table["variant"].map(sd[metric])
    if len(rows[["category", "seed"]].drop_duplicates()) == 1:
        for bound in [name for name in ("image_auroc_low", "image_auroc_high") if name in mean]:
            table[bound] = table["variant"].map(mean[bound])
    if block.paper and block.paper_metric in table:
        table["paper"] = table["variant"].map(block.paper)
        table["difference"] = table[block.paper_metric] - table["paper"]
    for cost in [name for name in COSTS if name in mean]:
        table[cost] = table["variant"].map(mean[cost])
    return table


def category_table(tidy: pd.DataFrame, axis: str, block: AxisParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a metric's mean over seeds by variant and metric (rows) and category, and the difference to the reference.

    The difference is NaN where the axis compares a variant with none.
    """
    rows = tidy[tidy["axis"] == axis]
    means = rows.groupby(["variant", "metric", "category"], sort=False)["value"].mean().unstack("category")
    order = [(variant, metric) for variant in block.present for metric in COMPARED]
    means = means.loc[[row for row in order if row in means.index]]
    references = dict(reference_pairs(block))
    against = means.reindex(pd.MultiIndex.from_tuples([(references.get(v, ""), m) for v, m in means.index]))
    return means, means - against.to_numpy()


def axis_headline(table: pd.DataFrame, block: AxisParameters) -> dict[str, float]:
    """Return the image AUROC of an axis' reference and of its best variant, those that have finished."""
    if "image_auroc" not in table:
        return {}
    found = table.set_index("variant")["image_auroc"].dropna()
    compare_with = block.compare_with
    reference = next(iter(compare_with.values())) if isinstance(compare_with, dict) else compare_with
    headline = {"reference": float(found[reference])} if reference in found else {}
    return headline | ({"best": float(found.max())} if len(found) else {})


def reference_pairs(block: AxisParameters) -> list[tuple[str, str]]:
    """Return which variants are compared: each with the axis's reference, or as its mapping says."""
    if isinstance(block.compare_with, dict):
        pairs = list(block.compare_with.items())
    else:
        pairs = [(name, block.compare_with) for name in block.present if name != block.compare_with]
    return [(first, second) for first, second in pairs if first in block.present and second in block.present]


def compare_pairs(
    results: list[CaseResult],
    read_histograms: ReadHistograms,
    axis: str,
    block: AxisParameters,
    resamples: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return the paired differences of image and pixel AUROC of an axis, with p-values corrected by Holm's method.

    Both variants are predicted on the same resampled test images of each category; AUROC is averaged over seeds, then
    over categories, of the `cases` (category and seed) that both have finished. `real` says that the corrected p is
    below 0.05.
    """
    done = [result for result in results if result.axis == axis and result.finished]
    labels = {result.category: np.asarray(result.labels) for result in done}
    groups = {result.category: np.asarray(result.groups or range(len(result.labels))) for result in done}
    weights = {name: draw_groups(found, groups[name], resamples, generator) for name, found in labels.items()}
    areas: dict[tuple[str, str], dict[Place, np.ndarray]] = {}
    for result in done:
        place, drawn = (result.category, result.seed), weights[result.category]
        drawn = np.concatenate([np.ones_like(drawn[:1]), drawn])  # the first row is the test set itself
        if len(np.unique(result.labels)) == 2:
            found = image_aurocs(labels[result.category], np.asarray(result.scores), drawn)
            areas.setdefault((result.variant, "image_auroc"), {})[place] = found
        histograms = read_histograms(result)
        if histograms is not None and len(histograms[0]) == drawn.shape[1]:
            areas.setdefault((result.variant, "pixel_auroc"), {})[place] = pixel_aurocs(*histograms, drawn)
    rows = []
    for variant, reference in reference_pairs(block):
        for metric in ("image_auroc", "pixel_auroc"):
            first, second = (areas.get((name, metric), {}) for name in (variant, reference))
            common = {place: first[place] - second[place] for place in first if place in second}
            if common:
                difference = _average_places(common)
                values = summarise_difference(difference[0], difference[1:])
                rows.append([axis, variant, reference, metric, *values, len(common)])
    pairs = pd.DataFrame(rows, columns=[*PAIR_COLUMNS[:8], "cases"])
    pairs["p_holm"] = holm(pairs["p"].to_numpy()) if len(pairs) else []
    pairs["real"] = pairs["p_holm"] < 0.05
    return pairs[PAIR_COLUMNS]


def _average_categories(rows: pd.DataFrame) -> pd.Series:
    """Return the mean over categories by metric, variant and seed, without seeds that lack a category of the metric."""
    wide = rows.pivot(index=["metric", "variant", "seed"], columns="category", values="value")
    measured = wide.notna()
    complete = (measured | ~measured.groupby("metric").transform("any")).all(axis=1)
    return wide.mean(axis=1)[complete]


def _average_places(values: dict[Place, np.ndarray]) -> np.ndarray:
    """Return the mean over categories of each one's mean over seeds."""
    categories = dict.fromkeys(category for category, _ in values)
    of_each = [np.mean([found for (name, _), found in values.items() if name == each], axis=0) for each in categories]
    return np.mean(of_each, axis=0)


def summarise_difference(observed: float, resampled: np.ndarray) -> tuple[float, float, float, float]:
    """Return the difference, its 95 % percentile interval, and the two-sided p-value that there is none.

    That is twice the smaller share of resamples beyond 0: whether other test images would show the difference, not
    whether other trainings would.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    beyond = min((resampled <= 0).mean(), (resampled >= 0).mean())
    smallest = 1 / (len(resampled) + 1)
    return float(observed), float(low), float(high), float(min(max(2 * beyond, smallest), 1.0))


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the exact two-sided p-value that two deciders are wrong equally often (McNemar 1947).

    `first_alone` and `second_alone` count the cases that only one of them decides rightly: under the hypothesis each is
    the first's with a chance of one half. Without any such case it is 1.
    """
    from scipy.stats import binomtest  # late: it takes a second

    discordant = first_alone + second_alone
    return float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number (Holm 1979): the chance of any false finding stays below each."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result
