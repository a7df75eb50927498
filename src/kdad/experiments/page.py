"""The ablation's page: one HTML file with its figures inside, which works offline."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kdad.experiments.tables import COSTS, SHOWN
from kdad.reporting.html import embedded_figure, render_html

_PAIRS = ("variant", "against", "metric", "difference", "95 % interval", "p")


@dataclass(frozen=True)
class AxisSection:
    """What the page shows of an axis: question, `axis_table`, paired differences, figure, and variants' settings."""

    name: str
    question: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    figure: Figure
    settings: dict[str, dict[str, Any]]


def render_page(title: str, facts: str, protocol: str, sections: list[AxisSection], missing: pd.DataFrame) -> str:
    """Return the page as HTML; text from settings and errors is escaped."""
    return render_html(
        "kdad.experiments",
        "ablation",
        title=title,
        facts=facts,
        protocol=protocol,
        missing=missing.to_dict("records"),
        axes=[_section(section) for section in sections],
    )


def _section(section: AxisSection) -> dict[str, Any]:
    table = section.table
    metrics = [name for name in SHOWN if name in table]
    costs = [name for name in COSTS if name in table]
    has_paper = "paper" in table
    paper_header = ["paper", "ours - paper"] if has_paper else []
    # A pair that differs in nothing, because the axis does not touch what the metric measures, is not shown.
    pairs = [record for record in section.pairs.to_dict("records") if record["low"] or record["high"]]
    rows = []
    for record in table.to_dict("records"):
        cells = [record["variant"].replace("_", " ")]
        cells += [_with_spread(record[name], record[f"{name}_sd"]) for name in metrics]
        cells += [_number(record[name]) for name in ("paper", "difference")] if has_paper else []
        rows.append(cells + [_count(record[name]) for name in costs])
    return {
        "name": section.name,
        "question": section.question,
        "figure": embedded_figure(section.figure),
        "header": ["variant", *(SHOWN[name] for name in metrics), *paper_header, *(COSTS[name] for name in costs)],
        "rows": rows,
        "spread": bool((table["seeds"] > 1).any()),
        "pairs_header": _PAIRS,
        "pairs": [_pair(record) for record in pairs],
        "real": ["real" if record["real"] else "" for record in pairs],
        "settings": [
            (name, ", ".join(f"{k}={v}" for k, v in found.items()) or "the base")
            for name, found in section.settings.items()
        ],
    }


def _pair(record: dict[str, Any]) -> list[str]:
    return [
        record["variant"].replace("_", " "),
        record["reference"].replace("_", " "),
        SHOWN[record["metric"]],
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
