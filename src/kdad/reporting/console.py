"""Tables on the console: columns of data, numbers by name, and the short tables that end a run."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from kdad.metrics.names import MAIN, METRICS, Metric
from kdad.parameters.written_names import printable
from kdad.reporting.threshold_remarks import counted, interval_of, missed_most, threshold_remarks
from kdad.scoring.threshold import Threshold

_ROWS = 60
_TITLE = 80


def frame_table(title: str, frame: pd.DataFrame, headings: dict[str, str]) -> Table:
    """Return a table of the columns that `headings` names, as far as there are any; of very many rows the first.

    A column of which nothing was measured is left out.
    """
    columns = [name for name in headings if name in frame and (frame[name].notna().any() or frame.empty)]
    table = _empty(title)
    for name in columns:
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(headings[name], justify="right" if is_number else "left")
    for row in frame[columns].head(_ROWS).itertuples(index=False):
        table.add_row(*map(said, row))
    if len(frame) > _ROWS:
        table.caption = f"the first {_ROWS} of {len(frame)} rows"
    return table


def numbers_table(title: str, values: dict[str, Any]) -> Table:
    """Return a table of a row for each value that is there."""
    table = _empty(title)
    table.add_column("")
    table.add_column("")
    for name, value in values.items():
        if said(value) == "-":
            continue
        metric = METRICS.get(name.rpartition(".")[2])
        table.add_row(name.replace("_", " "), said(value) if metric is None else metric.text(value))
    table.show_header = False
    return table


def said(value: Any) -> str:
    """Return a value as tables show it: four digits, yes or no, a dash for what was not measured."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _empty(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.min_width = min(len(title), _TITLE)  # else the title is wrapped to the width of the numbers
    return table


def console_table(metrics: dict) -> Group:
    """Return a run's metrics as tables: how images and pixels are ranked, and what the threshold promises and does.

    The first has a column for images, and one for the pixels of each localisation method; what cannot be measured has
    no row. What is odd about the threshold is said below, in words.
    """
    notes = [f"remark: {remark}" for remark in threshold_remarks(metrics)]
    left_out = _left_out(metrics)
    if left_out is not None:
        notes.insert(0, left_out)
    # A table of its own: beside four methods' columns, words are broken on a console of 80.
    tables = [_ranking_table(metrics), *([_threshold_table(metrics)] if metrics.get("threshold") else [])]
    tables += [_category_table(metrics["categories"])] if metrics.get("categories") else []
    tables += [_kinds_table(metrics)] if len(metrics.get("by_kind", {})) > 1 else []
    return Group(*tables, *(Text(note, style="italic") for note in notes))


def _ranking_table(metrics: dict) -> Table | Text:
    title = f"{metrics['dataset']} / {metrics['category']}, {metrics['source']}, seed {metrics['seed']}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    of_pixels = [metric.key for metric in METRICS.values() if metric.kind == "pixel"]
    maps = {
        name: found
        for name, found in metrics["localisation"].items()
        if any(found.get(key) is not None for key in of_pixels)
    }
    for name in ("images", *maps):
        table.add_column(name.replace("_", " "), justify="right")
    low, high = metrics["image_auroc_low"], metrics["image_auroc_high"]
    by_title: dict[str, dict[str, Metric]] = {}
    for metric in METRICS.values():
        if metric.kind != "decisions":
            by_title.setdefault(metric.title, {})[metric.kind] = metric
    for row_title, of in by_title.items():
        cells = [(of.get("image"), metrics), *((of.get("pixel"), found) for found in maps.values())]
        texts = ["" if metric is None else metric.text(found[metric.key]) for metric, found in cells]
        if set(texts) - {"", "-"}:
            table.add_row(row_title, *texts)
        if row_title == "AUROC" and low is not None:
            table.add_row("95 % interval", f"{low:.3f} to {high:.3f}")
    if not table.rows:
        return Text.assemble((title, "bold"), "\nno ranking: that takes normal and anomalous test images, or masks")
    return table


def _category_table(categories: dict[str, dict]) -> Table:
    heads, rows = category_rows(categories)
    table = Table("", *(Column(head, justify="right") for head in heads))
    for row in rows:
        table.add_row(*row)
    return table


def category_rows(categories: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Return the main metrics of each category of one detector for several: their labels, and rows of name and texts.

    Rates are by the category's own threshold.
    """
    keys = [*MAIN, "false_positive_rate", "true_positive_rate"]
    shown = [METRICS[key] for key in keys if any(found.get(key) is not None for found in categories.values())]
    rows = [[name, *(metric.text(found.get(metric.key)) for metric in shown)] for name, found in categories.items()]
    return [metric.label for metric in shown], rows


def places_text(places: dict[str, Path | str]) -> str:
    """Return the lines that say where results are."""
    return "\n".join(f"{title}: {place}" for title, place in places.items())


def _threshold_table(metrics: dict) -> Table:
    threshold = Threshold.model_validate(metrics["threshold"])
    groups = len(threshold.group_scores)
    rows = {
        "threshold": f"{threshold.value:.4g}",
        "false positives promised": f"{100 * threshold.expected_false_positive_rate:.1f} %"
        + (" of groups" if groups else ""),
        "  95 % interval": interval_of(threshold),
        "  by normal images": f"{threshold.normal_images}" + (f" in {groups} groups" if groups else ""),
        "false positives observed": counted(metrics["false_positive_rate"], metrics["test_normal"]),
        "  by groups": counted(metrics.get("group_false_positive_rate"), metrics.get("test_normal_groups", 0)),
        "anomalous images found": counted(metrics["true_positive_rate"], metrics["test_anomalous"]),
    }
    if threshold.group_value is not None:
        low, high = metrics["group_auroc_low"], metrics["group_auroc_high"]
        rows |= {
            "groups' threshold": f"{threshold.group_value:.4g}, of the {threshold.group_score} of their images",
            "  anomalous groups found": counted(metrics["group_true_positive_rate"], metrics["test_anomalous_groups"]),
            f"  {METRICS['group_auroc'].label}": METRICS["group_auroc"].text(metrics["group_auroc"])
            + ("" if low is None else f" ({low:.3f} to {high:.3f})"),
        }
    table = Table(show_header=False)
    for title, said_of in rows.items():
        if said_of != "-":
            table.add_row(title, said_of)
    return table


def _kinds_table(metrics: dict) -> Table:
    """Return how images of each kind are decided on: the kinds that are missed most first, normal images last."""
    kinds = metrics["by_kind"]
    shown = [METRICS[key] for key in ("image_auroc", "pro_auc") if any(of[key] is not None for of in kinds.values())]
    headings = ("called anomalous", *(metric.label for metric in shown))
    table = Table("kind", *(Column(name, justify="right") for name in headings))
    for kind, of in missed_most(kinds):
        numbers = (metric.text(of[metric.key]) for metric in shown)
        table.add_row(printable(kind), f"{of['found']} of {of['images']}", *numbers)
    if metrics.get("false_positive_rate") is not None:
        table.add_row("(normal)", counted(metrics["false_positive_rate"], metrics["test_normal"]).partition(" (")[0])
    return table


def _left_out(metrics: dict) -> str | None:
    """Say what was not measured, and why."""
    if metrics["localisation_left_out"]:
        return f"pixel metrics left out: {metrics['localisation_left_out']}"
    said = [f"left out: {metrics['metrics_left_out']}"] if metrics.get("metrics_left_out") else []
    for name, what in (("without_mask", "have no mask"), ("with_empty_mask", "have an empty mask")):
        count = metrics.get(f"anomalous_images_{name}")
        said += [f"{count} anomalous images {what}, and are not in pixel metrics"] if count else []
    return "; ".join(said) or None
