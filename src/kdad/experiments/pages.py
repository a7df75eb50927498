"""Pages of ablations and baselines, one HTML file each with its figures inside, and those figures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdad.experiments.case import Case, CaseResult
from kdad.experiments.tables import COSTS
from kdad.metrics.names import COMPARED, MAIN, METRICS, labels
from kdad.reporting.html import embedded, embedded_figure, render_html
from kdad.reporting.style import CYCLE, INK, MUTED, draw_message, plain_axes, titled_figure

_SIGMA = re.compile(r"(?P<method>.+?)(?:_sigma_(?P<sigma>[\d.]+))?(?P<opening>_opening)?")


def draw_axis(table: pd.DataFrame, title: str) -> Figure:
    """Draw a panel for each metric of an `axis_table`: a point a variant, with its interval and its figure above it.

    Intervals are the sd over seeds; with one seed and category, image AUROC has its bootstrap interval instead.
    """
    metrics = [name for name in MAIN if name in table and table[name].notna().any()]
    if not metrics:
        return draw_message(f"{title}: nothing was measured")
    figure = titled_figure(3.5 * len(metrics) + 1.0, 0.36 * len(table) + 1.6, title)
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric, colour in zip(grid, metrics, CYCLE, strict=False):
        _draw_points(axes, table, metric, colour)
    seeds = table["seeds"].max() if "seeds" in table else 1
    said = "standard deviation over seeds" if seeds > 1 else "95 % interval over test images, of image AUROC"
    figure.supxlabel(f"bars: {said}", x=0.01, ha="left", fontsize=8, color=MUTED)
    return figure


def _draw_points(axes: Axes, table: pd.DataFrame, metric: str, colour: str) -> None:
    places = np.arange(len(table))[::-1]
    below, above = _spread(table, metric)
    error = np.stack([below, above]) if (below + above).any() else None
    plain_axes(axes, "", f"{METRICS[metric].label} (1 is perfect)", "").set_axisbelow(True)
    axes.errorbar(table[metric], places, xerr=error, fmt="o", color=colour, markersize=6, capsize=3)
    axes.set_yticks(places, [name.replace("_", " ") for name in table["variant"]])
    axes.set_ylim(-0.5, len(table) - 0.3)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for place, value in zip(places, table[metric], strict=True):
        if pd.notna(value):
            at = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
            axes.annotate(f"{value:.3f}", (value, place), (0, 4), fontsize=8, color=INK, **at)


def _spread(table: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series]:
    """Return how far the error bars of a metric reach below and above its means; 0 where nothing is known."""
    sd, bounds = table[f"{metric}_sd"], [f"{metric}_low", f"{metric}_high"]
    if sd.isna().all() and set(bounds) <= set(table):
        low, high = (table[name] for name in bounds)
        return (table[metric] - low).fillna(0), (high - table[metric]).fillna(0)
    return sd.fillna(0), sd.fillna(0)


def split_filter_name(variant: str) -> tuple[str, float, bool]:
    """Split ``gradients_sigma_4_opening`` into method, sigma (0 without) and whether an opening follows."""
    found = _SIGMA.fullmatch(variant)
    return found["method"], float(found["sigma"] or 0), bool(found["opening"])


def draw_filter(table: pd.DataFrame, title: str) -> Figure:
    """Draw localisation over the Gaussian's sigma by method; crosses have an opening, rings are the paper's figures."""
    parts = list(map(split_filter_name, table["variant"]))
    table = table.assign(**pd.DataFrame(parts, table.index, ["method", "sigma", "opening"]))
    metrics = [name for name in ("pixel_auroc", "pixel_auroc_mkd_protocol", "pro_auc") if name in table]
    if not metrics:
        return draw_message(f"{title}: there are no masks to measure localisation against")
    figure = titled_figure(4.2 * len(metrics), 3.8, title)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        plain_axes(axes, "", "Gaussian sigma, pixels", f"{METRICS[metric].label} (1 is perfect)")
        for (method, rows), colour in zip(table.groupby("method", sort=False), CYCLE, strict=False):
            line = rows[~rows["opening"]].sort_values("sigma")
            sd = line[f"{metric}_sd"].fillna(0)
            label = method.replace("_", " ")
            axes.errorbar(line["sigma"], line[metric], yerr=sd, color=colour, marker="o", capsize=3, label=label)
            opened = rows[rows["opening"]]
            axes.plot(opened["sigma"], opened[metric], "x", color=colour, markersize=9, markeredgewidth=2)
            if metric == "pixel_auroc_mkd_protocol" and "paper" in rows:
                paper = line.dropna(subset="paper")
                axes.plot(paper["sigma"], paper["paper"], "o", mfc="none", color=colour, markersize=10, linestyle=":")
        axes.margins(x=0.08, y=0.12)
    _explain_marks(figure, table)
    return figure


def _explain_marks(figure: Figure, table: pd.DataFrame) -> None:
    """Put one legend under the panels: a colour for each method, and what crosses and rings are."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    marks = {"x": ("grey opening after the Gaussian", table["opening"].any())}
    marks["o"] = ("the paper's figure", "paper" in table and table["paper"].notna().any())
    for marker, (label, is_drawn) in marks.items():
        if is_drawn:
            handles.append(Line2D([], [], color=INK, marker=marker, mfc="none", linestyle="none", markersize=8))
            labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8.5, labelcolor=INK)


_PAIRS = ("variant", "against", "metric", "difference", "95 % interval", "p")

_BASELINE_PROTOCOL = (
    "Fitted on training images alone; the threshold comes from normal validation images; test images are scored once. "
    "Brackets: 95 % bootstrap interval over test images. Memory: the fitted detector's size, and in brackets by how "
    "much the process grew while it was fitted and scored."
)
_TRAINED_PROTOCOL = (
    "Rows that name a run are the newest detectors of systems' own pipelines on the same images and split, with the "
    "figures that their run kept."
)
#: Of a detector's figures beside its metrics: the interval, and what of the test images was counted.
_COUNTED = ("image_auroc_", "test_", "anomalous_images_")
_COLUMNS = ("method", "sees", *labels(COMPARED).values(), "fit, s", "score, ms an image", "memory, MB")


def render_ablation(title: str, facts: str, protocol: str, axes: list[dict[str, Any]], missing: pd.DataFrame) -> str:
    """Return the page as HTML, with an `axis_section` each; text from settings and errors is escaped."""
    return render_html(
        "kdad.experiments",
        "ablation",
        title=title,
        facts=facts,
        protocol=protocol,
        missing=missing.to_dict("records"),
        axes=axes,
    )


def axis_section(
    name: str,
    question: str,
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    figure: Figure,
    settings: dict[str, dict[str, Any]],
    by_category: tuple[pd.DataFrame, pd.DataFrame],
) -> dict[str, Any]:
    """Return what the page shows of an axis.

    That is its `axis_table`, paired differences, figure, variants' settings, and of several its `category_table`.
    """
    metrics = [name for name in COMPARED if name in table]
    costs = [name for name in COSTS if name in table]
    has_paper = "paper" in table
    paper_header = ["paper", "ours - paper"] if has_paper else []
    # A pair that differs in nothing, because the axis does not touch what the metric measures, is not shown.
    shown = [record for record in pairs.to_dict("records") if record["low"] or record["high"]]
    rows, records = [], table.to_dict("records")
    for record in records:
        cells = [record["variant"].replace("_", " ")]
        cells += [_with_spread(record[name], record[f"{name}_sd"]) for name in metrics]
        cells += [_number(record[name]) for name in ("paper", "difference")] if has_paper else []
        rows.append(cells + [_count(record[name]) for name in costs])
    return {
        "name": name,
        "question": question,
        "figure": embedded_figure(figure),
        "tile": _best(question, records),
        "header": ["variant", *labels(metrics).values(), *paper_header, *(COSTS[name] for name in costs)],
        "rows": rows,
        "spread": bool((table["seeds"] > 1).any()),
        **_categories(*by_category),
        "pairs_header": _PAIRS,
        "pairs": [_pair(record) for record in shown],
        "real": ["real" if record["real"] else "" for record in shown],
        "settings": [
            (name, ", ".join(f"{k}={v}" for k, v in found.items()) or "the base") for name, found in settings.items()
        ],
    }


def _categories(means: pd.DataFrame, differences: pd.DataFrame) -> dict[str, Any]:
    """Return a table of the categories, without rows where there is one."""
    rows = [
        [
            *(variant.replace("_", " "), METRICS[metric].label),
            *(
                _number(mean) + (f" ({difference:+.4f})" if pd.notna(difference) else "")
                for mean, difference in zip(means.loc[variant, metric], differences.loc[variant, metric], strict=True)
            ),
        ]
        for variant, metric in means.index
    ]
    header = ["variant", "metric", *means.columns]
    return {"categories_header": header, "categories": rows if len(means.columns) > 1 else []}


def _best(question: str, records: list[dict[str, Any]]) -> tuple[str, str, str] | None:
    """Return the variant of the highest image AUROC as a tile; None where nothing was measured.

    An axis of maps alone, whose variants detect alike, is told by pixel AUROC or PRO.
    """
    values = {metric: [record[metric] for record in records if pd.notna(record.get(metric))] for metric in MAIN}
    metric = next((name for name, found in values.items() if len(set(found)) > 1), "image_auroc")
    if not values[metric]:
        return None
    best = max(records, key=lambda record: -1.0 if pd.isna(record.get(metric)) else record[metric])
    figure = _with_spread(best[metric], best[f"{metric}_sd"])
    said = f"{METRICS[metric].label} {figure}, the highest of {len(values[metric])}"
    return question, best["variant"].replace("_", " "), said


def _pair(record: dict[str, Any]) -> list[str]:
    return [
        record["variant"].replace("_", " "),
        record["reference"].replace("_", " "),
        METRICS[record["metric"]].label,
        f"{record['difference']:+.4f}",
        f"{record['low']:+.4f} to {record['high']:+.4f}",
        f"{record['p_holm']:.3g}",
    ]


def _with_spread(mean: float, sd: float) -> str:
    return _number(mean) + (f" ± {sd:.4f}" if pd.notna(sd) else "")


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def _count(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def baseline_table(
    cases: Sequence[Case], results: list[CaseResult], trained: dict[str, dict[str, Any]] | None = None
) -> pd.DataFrame:
    """Return a row for each finished case: method, detector, sees, metrics and costs.

    Below are the detectors that systems' own pipelines `trained`, from their records by system: with the metrics that
    their run kept, no costs, and that run in the column ``run``.
    """
    rows = []
    for case, result in zip(cases, results, strict=True):
        if not result.finished:
            continue
        costs = {"fit_seconds": result.costs["train_seconds"]} | {
            name: result.costs[name] for name in ("milliseconds_an_image", "kept_megabytes", "peak_megabytes")
        }
        facts = {"method": case.variant, **case.detector.label(case.settings)}
        rows.append({**facts, **result.metrics, "training_images": result.training_images, **costs})
    for system, record in (trained or {}).items():
        metrics = {
            name: value for name, value in record["metrics"].items() if name in METRICS or name.startswith(_COUNTED)
        }
        facts = {"method": system, "detector": system, "sees": "images", "run": _run_of(record)}
        rows.append({**facts, **metrics, "training_images": record["training_images"]})
    return pd.DataFrame(rows, columns=None if rows else ["method", "detector", "sees"])


def _run_of(record: dict[str, Any]) -> str:
    """Say which run made a detector: when, by MLflow's first digits or else by its commit."""
    run, when = record.get("mlflow_run"), record["made"][:16].replace("T", " ")
    return f"run {run[:8]}, {when}" if run else f"commit {record.get('commit') or 'unknown'}, {when}"


def sheets_of(results: list[CaseResult]) -> dict[str, bytes]:
    """Return the heat-map sheets as PNG by method, of those that map."""
    paths = {result.variant: Path(result.folder) / "heatmaps.png" for result in results if result.finished}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def render_baselines(
    title: str,
    facts: str,
    table: pd.DataFrame,
    sheets: dict[str, bytes],
    missing: pd.DataFrame,
    untrained: Sequence[str] = (),
) -> str:
    """Return the page as HTML: a row for each method of `table`, what is `missing`, the sheets (PNG) by method.

    It says how those systems get a row that are `untrained`, on the images of the table.
    """
    return render_html(
        "kdad.experiments",
        "baselines",
        title=title,
        facts=facts,
        protocol=_BASELINE_PROTOCOL + (f" {_TRAINED_PROTOCOL}" if "run" in table else ""),
        untrained=untrained,
        missing=missing.to_dict("records"),
        figure=embedded_figure(_draw_methods(table, title)),
        columns=_COLUMNS,
        rows=table_cells(table),
        sheets=[{"name": name.replace("_", " "), "picture": embedded(png)} for name, png in sheets.items()],
    )


def _draw_methods(table: pd.DataFrame, title: str) -> Figure:
    """Draw each method's metrics; with one seed, image AUROC alone has an interval."""
    shown = table.rename(columns={"method": "variant"})
    unknown = {f"{name}_sd": float("nan") for name in MAIN if name in table}
    return draw_axis(shown.assign(**unknown), title)


def table_cells(table: pd.DataFrame) -> list[list[str]]:
    """Return the table's cells as text, in the order of the page's columns; what was not measured is a dash."""
    return [
        [
            row["method"].replace("_", " ") + (f" ({row['run']})" if pd.notna(row.get("run")) else ""),
            row["sees"],
            METRICS["image_auroc"].text(row["image_auroc"]) + _interval(row),
            *(METRICS[name].text(row[name]) for name in COMPARED[1:]),
            *_costs(row),
        ]
        for row in table.to_dict("records")
    ]


def _costs(row: dict[str, Any]) -> tuple[str, str, str]:
    if pd.isna(row.get("fit_seconds")):  # of a run of its own, on whatever else the machine did
        return ("-",) * 3
    memory = f"{row['kept_megabytes']:.2f} [{row['peak_megabytes']:.0f}]"
    return f"{row['fit_seconds']:.2f}", f"{row['milliseconds_an_image']:.1f}", memory


def _interval(row: dict[str, Any]) -> str:
    if pd.isna(row["image_auroc"]):
        return ""
    low, high = (METRICS["image_auroc"].text(row[f"image_auroc_{bound}"]) for bound in ("low", "high"))
    return f" [{low}, {high}]"
