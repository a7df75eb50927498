"""The pipeline of an ablation: its cases, results by axis, tables, a page, and an error when something is missing."""

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.ablation_parameters import AblationParameters
from kdad.experiments.figures import draw_axis, draw_filter
from kdad.experiments.page import AxisSection, render_page
from kdad.experiments.plan import Plan
from kdad.experiments.result import CaseResult, histograms_of
from kdad.experiments.results import current_results, made_by, missing, tidy
from kdad.experiments.tables import axis_headline, axis_table, compare_pairs
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.binding import bind_first
from kdad.pipelines.comparison.cases import collected_names, create_cases, report_missing
from kdad.pipelines.comparison.nodes import describe_origin, describe_root
from kdad.seeding import numpy_generator

_PROTOCOL = (
    "Every variant is judged at its last epoch, on test images that choose nothing within the table. Defaults of MKD "
    "were chosen on the drawn defects of textures, so figures on textures compare variants and are no estimate for new "
    "data. Seeds draw initialisation and order; the split stays the same."
)
_TITLES = {"mkd_ablation": "MKD ablation", "students_ablation": "Uninformed Students ablation"}


def create_pipeline(plan: Plan) -> Pipeline:
    """Run every case, collect each axis's results, summarise and draw them, and end with an error for missing ones."""
    own, block = (lambda name: f"{plan.name}.{name}"), f"params:{plan.name}"
    ended = [
        Node(
            bind_first(summarise, plan),
            inputs=[block, *collected_names(plan)],
            outputs=[own(name) for name in ("summary", "summary_csv", "pairs", "missing", "origin")],
            name="summarise_variants",
            tags=plan.axes,
        ),
        Node(
            bind_first(write_page, plan),
            inputs={
                **{name: own(name) for name in ("summary", "pairs", "missing", "origin")},
                "ablation": block,
                "dataset": "params:dataset",
            },
            outputs=[own("figures"), own("page"), own("headline")],
            name="draw_ablation",
            tags=plan.axes,
        ),
        report_missing(plan.name, "variants", plan.axes),
    ]
    return create_cases(plan) + Pipeline(ended)


def summarise(
    plan: Plan, ablation: AblationParameters, *axes: list[CaseResult] | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return the tidy table of every planned case (twice: parquet and csv), paired differences, what is missing, and
    which code made the results.
    """
    current = current_results(plan.cases, [result for results in axes for result in results or []])
    pairs = [
        compare_pairs(
            current, histograms_of, name, axis, ablation.resamples, numpy_generator(plan.cases[0].seed, "pairs", name)
        )
        for name, axis in ablation.chosen.items()
    ]
    table = tidy(current)
    return table, table, pd.concat(pairs, ignore_index=True), missing(current), made_by(current)


def write_page(
    plan: Plan,
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    missing: pd.DataFrame,
    origin: str,
    ablation: AblationParameters,
    dataset: DatasetParameters,
) -> tuple[dict[str, Figure], str, dict[str, dict[str, float]]]:
    """Draw a figure for each axis, write the page that holds everything, and return each axis' reference and best."""
    settings = {(case.axis, case.variant): case.overrides for case in plan.cases}
    sections, headline = [], {}
    for name, axis in ablation.chosen.items():
        rows = axis_table(summary, name, axis)
        headline[name] = axis_headline(rows, axis)
        draw = draw_filter if name == "filter" else draw_axis
        found = {variant: settings[name, variant] for variant in axis.present}
        figure = draw(rows, axis.question)
        sections.append(AxisSection(name, axis.question, rows, pairs[pairs["axis"] == name], figure, found))
    categories = ", ".join(dict.fromkeys(case.category for case in plan.cases))
    facts = (
        f"{dataset.name} ({categories}), {dataset.size[0]} x {dataset.size[1]} pixels{describe_root(dataset)}, "
        f"{describe_bases(plan)}, seeds {', '.join(map(str, ablation.seeds))}; {describe_origin(origin)}"
    )
    title = _TITLES.get(plan.name, plan.name.replace("_", " ").capitalize())
    page = render_page(title, facts, _PROTOCOL, sections, missing)
    return {f"{section.name}.png": section.figure for section in sections}, page, headline


def describe_bases(plan: Plan) -> str:
    """Say what the cases look through; single variants may look through something else."""
    seen = {system: SYSTEMS[system].detector.describe(base) for system, base in plan.bases.items()}
    return ", ".join(f"{system} through {what}" for system, what in seen.items())
