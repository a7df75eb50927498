"""The comparison as a page that works offline, and as an excerpt for a README."""

from typing import Any

import pandas as pd

from kdad.experiments.paper_cells import MEAN
from kdad.reporting.html import render_html

_HEADINGS = {
    "image_auroc_percent": "image AUROC, percent",
    "pixel_auroc_percent_mkd_protocol": "pixel AUROC by the MKD protocol, percent",
    "pro_auc_fpr0.3": "PRO, area to a false positive rate of 0.3",
}
_SOURCES = {
    "mkd_one_class": "One class as normal (Salehi et al. 2021, table 2)",
    "mkd_mvtec": "MVTec AD (Salehi et al. 2021)",
    "mkd_gaussian_ablation": "Filters on MVTec AD (Salehi et al. 2021)",
    "us_pro": "MVTec AD (Bergmann et al. 2020)",
    "not printed": "Not in the papers",
}
_DECIMALS = {"pro_auc_fpr0.3": 3}
_PARTS = ("paper", "ours", "difference")
_SPREADS = {"paper": "paper_sd", "ours": "sd"}
_ALONE = {("ours",): "Every figure is ours.", ("paper",): "Every figure is the papers'."}
PROTOCOL = (
    "Last epoch; thresholds and settings come from normal images or other data; test images are scored once a cell. "
    "The spread is the standard deviation over seeds. An empty cell was not run, or is not printed."
)


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
        lines += [f"**{_SOURCES[table]}: {_HEADINGS[metric]}**", "", facts, ""]
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
    decimals = _DECIMALS.get(metric, 2)
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
        "heading": f"{_SOURCES[table]}: {_HEADINGS[metric]}",
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
    decimals = _DECIMALS.get(metric, 2)
    difference = record.get("difference")
    return {
        **{name: _number(record.get(name), decimals) for name in ("paper", "paper_sd", "ours", "sd")},
        "difference": "" if pd.isna(difference) else f"{difference:+.{decimals}f}",
        "direction": "" if pd.isna(difference) else "good" if difference >= 0 else "bad",
    }


def _number(value: float | None, decimals: int) -> str:
    return "" if pd.isna(value) else f"{value:.{decimals}f}"
