"""The short table that ends a run."""

from pathlib import Path

from rich.table import Table

_DETECTION = {"image_auroc": "AUROC", "image_ap": "AP", "image_f1_max": "F1 max"}
_LOCALISATION = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pro_auc": "PRO",
    "pixel_auroc_mkd_protocol": "AUROC, MKD protocol",
}


def console_table(metrics: dict) -> Table:
    """Return a table of a run's metrics, one line for detection and one for each localisation method."""
    place = f"{metrics['dataset']} / {metrics['category']}"
    table = Table(title=f"{place}, {metrics['source']}, seed {metrics['seed']}", title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("AUROC", "AP", "F1 max", *_LOCALISATION.values()):
        table.add_column(name, justify="right")
    interval = ""
    if metrics["image_auroc_low"] is not None:
        interval = f" [{metrics['image_auroc_low']:.3f}, {metrics['image_auroc_high']:.3f}]"
    detection = [_number(metrics[key]) + (interval if key == "image_auroc" else "") for key in _DETECTION]
    table.add_row("images", *detection, *[""] * len(_LOCALISATION))
    for method, found in metrics["localisation"].items():
        table.add_row(method, "", "", "", *[_number(found[key]) for key in _LOCALISATION])
    if metrics["localisation_left_out"]:
        table.caption = f"pixel metrics left out: {metrics['localisation_left_out']}"
    return table


def places_text(sheet: Path, run: str) -> str:
    """Return the line that says where the heat-map sheet and the MLflow run are."""
    return f"Heat maps: {sheet}\nMLflow run: {run}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
