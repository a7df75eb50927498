"""The pipeline of an ablation: its cases, tables, a page, and an error when something is missing."""

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.figures import draw_axis, draw_filter
from kdad.experiments.pages import AxisSection, render_ablation
from kdad.experiments.parameters import AblationParameters
from kdad.experiments.plan import Plan, ablation_of
from kdad.experiments.result import CaseResult, histograms_of, made_by, missing, tidy
from kdad.experiments.tables import axis_headline, axis_table, compare_pairs
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.comparison.cases import create_cases, report_missing
from kdad.pipelines.comparison.nodes import describe_origin, describe_root
from kdad.seeding import numpy_generator

_PROTOCOL = (
    "Every variant is judged at its last epoch, on test images that choose nothing within the table. Defaults of MKD "
    "were chosen on the drawn defects of textures, so figures on textures compare variants and are no estimate for new "
    "data. Seeds draw initialisation and order; the split stays the same."
)
_TITLES = {"mkd_ablation": "MKD ablation", "students_ablation": "Uninformed Students ablation"}


def create_pipeline(system: str) -> Pipeline:
    """Run every case, summarise and draw their results, and end with an error for missing ones."""
    name = ablation_of(system)
    own, block = (lambda what: f"{name}.{what}"), f"params:{name}"
    ended = [
        Node(
            summarise_variants,
            inputs=[own("plans"), block, f"{name}.{system}.results"],
            outputs=[own(made) for made in ("summary", "summary_csv", "pairs", "missing", "origin")],
            name=f"{name}_summarise_variants",
        ),
        Node(
            write_page,
            inputs={
                **{made: own(made) for made in ("plans", "summary", "pairs", "missing", "origin")},
                "ablation": block,
                "dataset": "params:dataset",
            },
            outputs=[own("figures"), own("page"), own("headline")],
            name=f"{name}_draw",
        ),
        report_missing(name),
    ]
    return create_cases(name) + Pipeline(ended)


def summarise_variants(
    plans: list[Plan], ablation: AblationParameters, results: list[CaseResult]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return the tidy table of every planned case (twice: parquet and csv), paired differences, what is missing, and
    which code made the results.
    """
    seed = plans[0].cases[0].seed
    pairs = [
        compare_pairs(results, histograms_of, name, axis, ablation.resamples, numpy_generator(seed, "pairs", name))
        for name, axis in ablation.chosen.items()
    ]
    table = tidy(results)
    return table, table, pd.concat(pairs, ignore_index=True), missing(results), made_by(results)


def write_page(
    plans: list[Plan],
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    missing: pd.DataFrame,
    origin: str,
    ablation: AblationParameters,
    dataset: DatasetParameters,
) -> tuple[dict[str, Figure], str, dict[str, dict[str, float]]]:
    """Draw a figure for each axis, write the page that holds everything, and return each axis' reference and best."""
    (plan,) = plans
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
    page = render_ablation(title, facts, _PROTOCOL, sections, missing)
    return {f"{section.name}.png": section.figure for section in sections}, page, headline


def describe_bases(plan: Plan) -> str:
    """Say what the cases look through; single variants may look through something else."""
    seen = {system: SYSTEMS[system].detector.describe(base) for system, base in plan.bases.items()}
    return ", ".join(f"{system} through {what}" for system, what in seen.items())
