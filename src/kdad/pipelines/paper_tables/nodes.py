"""Nodes of the pipeline `paper_tables`."""

from pathlib import Path
from typing import Any

import pandas as pd

from kdad.comparison.paper_cells import compare, misprinted_means, our_figures
from kdad.comparison.paper_page import render_excerpt, render_tables
from kdad.comparison.paper_parameters import PaperTableParameters
from kdad.comparison.plan import Plan, category_namespace
from kdad.comparison.results import missing
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.ablation.summary import current_results, describe_source
from kdad.provenance import code_version

_PAPER_NAMES = {"digits": "mnist"}


def compare_with_papers(
    plans: list[Plan],
    paper_results: pd.DataFrame,
    paper_tables: dict[str, Any],
    dataset: dict[str, Any],
    *results: dict[str, Any] | None,
) -> tuple[pd.DataFrame, str, str, pd.DataFrame]:
    """Return the cells, the page, the README's excerpt, and the planned cells that are missing."""
    block, images = PaperTableParameters(**paper_tables), DatasetParameters(**dataset)
    found = [result for result in results if result is not None]
    # A category at an image size of its own is the same category of the papers.
    labels = {name: category_namespace(dataset) for plan in plans for name, dataset in plan.datasets.items()}
    current = [
        {**result, "category": labels[result["category"]]} for plan in plans for result in current_results(plan, found)
    ]
    name = block.paper_dataset or _PAPER_NAMES.get(images.name, images.name)
    printed = paper_results[paper_results["dataset"] == name]
    if block.tables != "all":
        printed = printed[printed["table"].isin(block.tables.split())]
    ours = our_figures(current)
    names = {own: method.paper for own, method in block.present.items()}
    cells = compare(printed, ours, names, {own: method.tables for own, method in block.present.items()})
    other = f", beside the papers' {name}" if name != images.name else ""
    sizes = "".join(
        f" ({own} {method.image_size})" for own, method in block.present.items() if method.image_size is not None
    )
    sources = "".join(f"{describe_source(plan)}, " for plan in plans if plan.name.endswith("_ablation"))
    facts = (
        f"{images.name}{other}, {images.size[0]} x {images.size[1]} pixels{sizes}, {sources}"
        f"seeds {', '.join(map(str, block.seeds))}, commit {code_version(Path.cwd())}"
    )
    absent = missing(current)
    page = render_tables(f"The papers' tables: {name}", facts, cells, absent, misprinted_means(printed))
    return cells, page, render_excerpt(facts, cells), absent
