"""The papers' tables: printed figure, ours over seeds and the difference, as a page and as a README's excerpt."""

from typing import Any, NamedTuple

import pandas as pd

from kdad.experiments.case import CaseResult
from kdad.metrics.names import METRICS
from kdad.reporting.html import render_html

MEAN = "mean"
_OF_VARIANTS = ("mkd_gaussian_ablation",)  # compares variants of one method, which name it
_KEYS = ["table", "metric", "category", "method"]
_SOURCES = {
    "mkd_one_class": "One class as normal (Salehi et al. 2021, table 2)",
    "mkd_mvtec": "MVTec AD (Salehi et al. 2021)",
    "mkd_gaussian_ablation": "Filters on MVTec AD (Salehi et al. 2021)",
    "us_pro": "MVTec AD (Bergmann et al. 2020)",
    "not printed": "Not in the papers",
}
_PARTS = ("paper", "ours", "difference")
_SPREADS = {"paper": "paper_sd", "ours": "sd"}
_ALONE = {("ours",): "Every figure is ours.", ("paper",): "Every figure is the papers'."}
PROTOCOL = (
    "Last epoch; thresholds and settings come from normal images or other data; test images are scored once a cell. "
    "The spread is the standard deviation over seeds. An empty cell was not run, or is not printed."
)


class Printed(NamedTuple):
    """A metric as the papers print it: our name of it, the unit, what ours is multiplied by, and decimals."""

    own: str
    unit: str
    factor: float
    decimals: int

    @property
    def heading(self) -> str:
        """What stands above its table."""
        return f"{METRICS[self.own].label}, {self.unit}"


#: By the papers' names.
PRINTED = {
    "image_auroc_percent": Printed("image_auroc", "percent", 100.0, 2),
    "pixel_auroc_percent_mkd_protocol": Printed("pixel_auroc_mkd_protocol", "percent", 100.0, 2),
    "pro_auc_fpr0.3": Printed("pro_auc", "area to a false positive rate of 0.3", 1.0, 3),
}


def our_figures(results: list[CaseResult]) -> pd.DataFrame:
    """Return a row for each finished result and metric: method, category, seed, metric (the papers'), value."""
    rows = [
        {
            "method": result.variant,
            "category": result.category.removeprefix("class_"),
            "seed": result.seed,
            "metric": metric,
            "value": result.metrics[printed.own] * printed.factor,
        }
        for result in results
        if result.finished
        for metric, printed in PRINTED.items()
        if result.metrics.get(printed.own) is not None
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


def render_tables(
    title: str, facts: str, cells: pd.DataFrame, failed: pd.DataFrame, misprints: list[dict[str, Any]]
) -> str:
    """Return the page as HTML: a section for each table and metric of `compare`, and what failed.

    `misprints` are what `misprinted_means` returns.
    """
    return render_html(
        "kdad.experiments",
        "papers",
        title=title,
        facts=facts,
        protocol=PROTOCOL,
        sections=[
            _section(*names, block, misprints) for names, block in cells.groupby(["table", "metric"], sort=False)
        ],
        failed=failed.to_dict("records"),
    )


def render_excerpt(facts: str, cells: pd.DataFrame) -> str:
    """Return a Markdown table for each table and metric, of the methods that were run."""
    lines = []
    for (table, metric), block in cells.groupby(["table", "metric"], sort=False):
        run = block[block["ours"].notna()]
        lines += [f"**{_SOURCES[table]}: {PRINTED[metric].heading}**", "", facts, ""]
        lines += ["| | method | paper | ours ± sd (seeds) | difference |", "|---|---|---|---|---|"]
        for record in run.to_dict("records"):
            cell = _cell(record, metric)
            spread = f" ± {cell['sd']}" if cell["sd"] else ""
            printed = f"{cell['paper']} ± {cell['paper_sd']}" if cell["paper_sd"] else cell["paper"] or "-"
            place = f"| {record['category']} | {record['method']} | {printed} "
            lines.append(f"{place}| {cell['ours']}{spread} ({record['seeds']:.0f}) | {cell['difference'] or '-'} |")
        lines.append("")
    return "\n".join(lines)


def _section(table: str, metric: str, block: pd.DataFrame, misprints: list[dict[str, Any]]) -> dict[str, Any]:
    ours = set(block.loc[block["ours"].notna(), "method"])
    methods = sorted(dict.fromkeys(block["method"]), key=lambda name: name not in ours)
    decimals = PRINTED[metric].decimals
    records = {(record["category"], record["method"]): record for record in block.to_dict("records")}
    columns = [{"name": name, "ours": name in ours, "parts": _parts(block, name)} for name in methods]
    rows = {
        category: {"name": category, "cells": _cells(records, category, columns, metric)}
        for category in dict.fromkeys(block["category"])
    }
    mean = rows.pop(MEAN, None)
    kinds = {tuple(column["parts"]) for column in columns}
    return {
        "name": f"{table}-{metric}",
        "heading": f"{_SOURCES[table]}: {PRINTED[metric].heading}",
        "columns": columns,
        # Heads of one word say nothing where all columns have the same one.
        "labelled": len(kinds) > 1 or len(*kinds) > 1,
        "rows": list(rows.values()),
        "mean": mean,
        "said": _ALONE.get(next(iter(kinds))) if len(kinds) == 1 else None,
        "sources": "; ".join(block["source"].dropna().unique()),
        "misprints": [
            f"The printed mean of {slip['method']} is {_number(slip['printed'], decimals)}, that of its printed rows "
            f"{_number(slip['of_rows'], decimals)}; both are left as they are."
            for slip in misprints
            if (slip["table"], slip["metric"]) == (table, metric)
        ],
        "absent": ", ".join(method for method in methods if method not in ours),
    }


def _parts(block: pd.DataFrame, method: str) -> list[str]:
    """Return which figures a table has of a method."""
    own = block[block["method"] == method]
    return [part for part in _PARTS if own[part].notna().any()]


def _cells(
    records: dict[tuple[str, str], dict[str, Any]], category: str, columns: list[dict[str, Any]], metric: str
) -> list[dict[str, Any]]:
    """Return a row's cells: as many of a method as it has figures."""
    cells = []
    for column in columns:
        cell = _cell(records.get((category, column["name"]), {}), metric)
        for part in column["parts"]:
            found = {"text": cell[part], "sd": cell.get(_SPREADS.get(part, ""), ""), "ours_column": column["ours"]}
            cells.append(found | {"direction": cell["direction"] if part == "difference" else ""})
    return cells


def _cell(record: dict[str, Any], metric: str) -> dict[str, str]:
    decimals = PRINTED[metric].decimals
    difference = record.get("difference")
    return {
        **{name: _number(record.get(name), decimals) for name in ("paper", "paper_sd", "ours", "sd")},
        "difference": "" if pd.isna(difference) else f"{difference:+.{decimals}f}",
        "direction": "" if pd.isna(difference) else "good" if difference >= 0 else "bad",
    }


def _number(value: float | None, decimals: int) -> str:
    return "" if pd.isna(value) else f"{value:.{decimals}f}"
