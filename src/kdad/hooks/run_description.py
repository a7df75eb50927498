"""The description that a run has in MLflow: its results as a table, and its heat-map sheet."""

from typing import Any

from kdad.datasets.place import file_of
from kdad.hooks.measurements import headline
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, axis_link

#: Of several results those that are read first.
_FIRST = ("image_auroc", "pixel_auroc", "pro_auc", "false_positive_rate", "true_positive_rate", "threshold")
_SHEETS = ("heatmap_sheet", "contact_sheet")


def describe_run(pipeline: Any, catalog: Any) -> str:
    """Return markdown: how axes are compared, a table of first results of each metrics file, sheets and pages."""
    links = [f"[{axis}]({axis_link('', EXPERIMENT_ID, RUN_ID, axis)})" for axis in compared_axes(pipeline, catalog)]
    parts = [f"Compare, by selecting all and then Compare: {', '.join(links)}"] if links else []
    for name in sorted(pipeline.all_outputs()):
        system, _, kind = name.rpartition(".")
        if kind == "metrics" and catalog.exists(name):
            found = headline(catalog.load(name))
            rows = [f"| {key} | {found[key]:.4g} |" for key in _FIRST if key in found]
            if rows:
                parts.append("\n".join([f"| {system} | |", "|---|---|", *rows]))
        elif kind in _SHEETS and catalog.exists(name):
            file = file_of(catalog.get(name)).name
            parts.append(f"![{file}](get-artifact?path={file}&run_uuid={RUN_ID})")
        elif kind == "page" and catalog.exists(name):
            file = file_of(catalog.get(name)).name
            parts.append(f"Page: [{file}](get-artifact?path={file}&run_uuid={RUN_ID})")
    return "\n\n".join(parts)


def compared_axes(pipeline: Any, catalog: Any) -> list[str]:
    """Return the axes whose cases a pipeline has run, in order."""
    made = [name for name in pipeline.all_outputs() if name.endswith(".results") and catalog.exists(name)]
    return sorted({result.axis for name in made for result in catalog.load(name)})
