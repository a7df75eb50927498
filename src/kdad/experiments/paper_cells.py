"""Cells of the papers' tables: printed figure, ours over seeds, and the difference."""

from typing import Any

import pandas as pd

from kdad.experiments.result import CaseResult

#: The papers' metrics: our name of each, and what ours is multiplied by.
METRICS = {
    "image_auroc_percent": ("image_auroc", 100.0),
    "pixel_auroc_percent_mkd_protocol": ("pixel_auroc_mkd_protocol", 100.0),
    "pro_auc_fpr0.3": ("pro_auc", 1.0),
}
MEAN = "mean"
_OF_VARIANTS = ("mkd_gaussian_ablation",)  # compares variants of one method, which name it
_KEYS = ["table", "metric", "category", "method"]


def our_figures(results: list[CaseResult]) -> pd.DataFrame:
    """Return a row for each finished result and metric: method, category, seed, metric (the papers'), value."""
    rows = [
        {
            "method": result.variant,
            "category": result.category.removeprefix("class_"),
            "seed": result.seed,
            "metric": metric,
            "value": result.metrics[own] * factor,
        }
        for result in results
        if result.finished
        for metric, (own, factor) in METRICS.items()
        if result.metrics.get(own) is not None
    ]
    return pd.DataFrame(rows, columns=["method", "category", "seed", "metric", "value"])


def compare(
    paper: pd.DataFrame, ours: pd.DataFrame, names: dict[str, list[str]], tables: dict[str, list[str]] | None = None
) -> pd.DataFrame:
    """Return a row a cell: printed figure, its sd and source, ours over seeds, its sd and the difference.

    What there is not is NaN. `paper` holds one data set's rows (table, category, method, metric, value, std, source),
    `ours` what `our_figures` returns, `names` what the papers call each of our methods, `tables` which tables show it
    (``["all"]``: those that compare methods). A method of ours that a table does not have gets rows of its own. The
    mean over categories is ours only where every category of the table is there; its sd is over seeds. Rows come by
    category, the mean last, and by method, in the order of `names` and then of the table.
    """
    printed = paper.rename(columns={"value": "paper", "std": "paper_sd"})[[*_KEYS, "paper", "paper_sd", "source"]]
    found = []
    for (table, metric), block in printed.groupby(["table", "metric"], sort=False):
        categories = [name for name in dict.fromkeys(block["category"]) if name != MEAN]
        chosen = ours["method"].map(lambda own, table=table: _shows(table, (tables or {}).get(own, ["all"])))
        figures = _with_mean(ours[(ours["metric"] == metric) & chosen.astype(bool)], categories)
        figures = figures.assign(table=table, method=_named(figures["method"], names, set(block["method"])))
        found.append(_in_order(block.merge(figures, on=_KEYS, how="outer"), block, names))
    cells = pd.concat(found, ignore_index=True) if found else _unprinted(ours)
    return cells.assign(difference=cells["ours"] - cells["paper"])[
        [*_KEYS, "paper", "paper_sd", "ours", "sd", "seeds", "difference", "source"]
    ]


def misprinted_means(paper: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the printed means that rounding cannot explain by their rows: table, metric, method, printed, of_rows."""
    found = []
    for keys, block in paper.groupby(["table", "metric", "method"], sort=False):
        is_mean = block["category"] == MEAN
        rows, printed = block.loc[~is_mean, "value"], block.loc[is_mean, "value"]
        if rows.empty or printed.empty:
            continue
        decimals = max(len(str(value).partition(".")[2]) for value in rows)
        # Rows are off by half a unit, and a printed mean by one where it was cut off.
        if abs(rows.mean() - printed.iloc[0]) > 1.5 * 10**-decimals:
            named = dict(zip(("table", "metric", "method"), keys, strict=True))
            found.append({**named, "printed": float(printed.iloc[0]), "of_rows": float(rows.mean())})
    return found


def _in_order(cells: pd.DataFrame, block: pd.DataFrame, names: dict[str, list[str]]) -> pd.DataFrame:
    printed = block["method"]
    methods = [*_named(pd.Series(list(names), dtype=str), names, set(printed)), *printed, *cells["method"]]
    categories = [name for name in (*block["category"], *cells["category"]) if name != MEAN]
    places = {name: place for place, name in enumerate(dict.fromkeys([*categories, MEAN, *methods]))}
    return cells.sort_values(["category", "method"], key=lambda column: column.map(places))


def _shows(table: str, named: list[str]) -> bool:
    return table in named or (named == ["all"] and table not in _OF_VARIANTS)


def _with_mean(ours: pd.DataFrame, categories: list[str]) -> pd.DataFrame:
    """Summarise over seeds, each category, and their mean where all of them are there for a seed."""
    wanted = ours[ours["category"].isin(categories)]
    counts = wanted.groupby(["method", "metric", "seed"])["value"].agg(["mean", "count"]).reset_index()
    complete = counts[counts["count"] == len(categories)]
    means = complete.rename(columns={"mean": "value"}).assign(category=MEAN)
    # A category that the table does not have is shown too.
    everything = pd.concat([ours, means[list(ours.columns)]], ignore_index=True)
    grouped = everything.groupby(["method", "metric", "category"], sort=False)["value"]
    return grouped.agg(ours="mean", sd="std", seeds="count").reset_index()


def _named(methods: pd.Series, names: dict[str, list[str]], printed: set[str]) -> pd.Series:
    """Give our methods the names that this table has for them."""
    known = {own: next((name for name in theirs if name in printed), own) for own, theirs in names.items()}
    return methods.map(known)


def _unprinted(ours: pd.DataFrame) -> pd.DataFrame:
    """Return our figures of a data set of which the papers print none."""
    figures = _with_mean(ours, list(dict.fromkeys(ours["category"])))
    return figures.assign(table="not printed", paper=float("nan"), paper_sd=float("nan"), source=None)
