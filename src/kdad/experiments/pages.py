"""Pages of ablations and baselines, one HTML file each with its figures inside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kdad.experiments.case import Case, CaseResult
from kdad.experiments.figures import draw_axis
from kdad.experiments.tables import COSTS
from kdad.metrics.names import COMPARED, MAIN, METRICS, labels
from kdad.reporting.html import embedded, embedded_figure, render_html

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
