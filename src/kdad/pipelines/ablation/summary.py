"""Nodes that turn the cases' results into tables, figures and a page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad.comparison.figures import draw_axis, draw_filter
from kdad.comparison.page import AxisSection, render_page
from kdad.comparison.plan import Plan
from kdad.comparison.results import missing, tidy
from kdad.comparison.tables import axis_table, compare_pairs
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.ablation.nodes import planned_key
from kdad.provenance import code_version
from kdad.seeding import numpy_generator

_PROTOCOL = (
    "Every variant is judged at its last epoch, on test images that choose nothing within the table. Defaults of MKD "
    "were chosen on the drawn defects of textures, so figures on textures compare variants and are no estimate for new "
    "data. Seeds draw initialisation and order; the split stays the same."
)
_TITLES = {"mkd_ablation": "MKD ablation", "students_ablation": "Uninformed Students ablation"}


def collect_results(*results: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Gather an axis's results, of those that there are."""
    return [result for result in results if result is not None]


def summarise(
    plan: Plan, ablation: dict[str, Any], *axes: list[dict[str, Any]] | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the tidy table of every planned case (twice: parquet and csv), paired differences, and what is missing."""
    block = plan.block(ablation)
    current = current_results(plan, [result for results in axes for result in results or []])
    pairs = [
        compare_pairs(
            current, _read_histograms, name, axis, block.resamples, numpy_generator(plan.cases[0].seed, "pairs", name)
        )
        for name, axis in block.chosen.items()
    ]
    table = tidy(current)
    return table, table, pd.concat(pairs, ignore_index=True), missing(current)


def write_page(
    plan: Plan,
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    absent: pd.DataFrame,
    ablation: dict[str, Any],
    dataset: dict[str, Any],
) -> tuple[dict[str, Figure], str]:
    """Draw a figure for each axis, and write the page that holds everything."""
    block = plan.block(ablation)
    settings = {(case.axis, case.variant): case.settings for case in plan.cases}
    sections = []
    for name, axis in block.chosen.items():
        rows = axis_table(table, name, axis)
        draw = draw_filter if name == "filter" else draw_axis
        found = {variant: settings[name, variant] for variant in axis.present}
        sections.append(
            AxisSection(name, axis.question, rows, pairs[pairs["axis"] == name], draw(rows, axis.question), found)
        )
    parameters = DatasetParameters(**dataset)
    facts = (
        f"{parameters.name} ({', '.join(plan.datasets)}), {parameters.size[0]} x {parameters.size[1]} pixels, "
        f"{describe_source(plan)}, seeds {', '.join(map(str, block.seeds))}, commit {code_version(Path.cwd())}"
    )
    page = render_page(_TITLES[plan.name], facts, _PROTOCOL, sections, absent)
    return {f"{section.name}.png": section.figure for section in sections}, page


def current_results(plan: Plan, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a result for each case; one that is not there, or of other settings, counts as failed."""
    found = {tuple(result[name] for name in ("axis", "variant", "category", "seed")): result for result in results}
    current = []
    for case in plan.cases:
        result = found.get(tuple(case.head.values()))
        if result is not None and result["planned"] == planned_key(case):
            current.append(result)
            continue
        error = "not run yet" if result is None else "its result is of other settings; run it again"
        current.append({**case.head, "status": "failed", "error": error, "metrics": {}})
    return current


def describe_source(plan: Plan) -> str:
    """Say what the first case's source is; single variants may have another."""
    blocks = plan.cases[0].blocks
    if "source" in blocks:
        return f"source {blocks['source']['name']}"
    return f"teachers distilled from {blocks['teacher']['source']['name']}"


def _read_histograms(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    path = Path(result["folder"]) / "histograms.npz"
    if not path.exists():
        return None
    with np.load(path) as found:
        return found["normal"], found["anomalous"]
