"""The short table that ends a run."""

from pathlib import Path

from rich.table import Table

_ROWS = {
    "AUROC": ("image_auroc", "pixel_auroc"),
    "95 % interval": ("interval", None),
    "average precision": ("image_ap", "pixel_ap"),
    "F1, best threshold": ("image_f1_max", None),
    "PRO": (None, "pro_auc"),
    "AUROC, MKD protocol": (None, "pixel_auroc_mkd_protocol"),
}


def console_table(metrics: dict) -> Table:
    """Return a table of a run's metrics: a column for images, and one for the pixels of each localisation method."""
    place = f"{metrics['dataset']} / {metrics['category']}"
    table = Table(
        title=f"{place}, {metrics['source']}, seed {metrics['seed']}", title_justify="left", title_style="bold"
    )
    table.add_column("")
    for name in ("images", *metrics["localisation"]):
        table.add_column(name.replace("_", " "), justify="right")
    low, high = metrics["image_auroc_low"], metrics["image_auroc_high"]
    detection = {**metrics, "interval": "-" if low is None else f"{low:.3f} to {high:.3f}"}
    for name, (of_images, of_pixels) in _ROWS.items():
        cells = [_cell(found, of_pixels) for found in metrics["localisation"].values()]
        table.add_row(name, _cell(detection, of_images), *cells)
    table.caption = _left_out(metrics)
    return table


def places_text(places: dict[str, Path | str]) -> str:
    """Return the lines that say where results are."""
    return "\n".join(f"{title}: {place}" for title, place in places.items())


def _left_out(metrics: dict) -> str | None:
    """Say what was not measured, and why."""
    if metrics["localisation_left_out"]:
        return f"pixel metrics left out: {metrics['localisation_left_out']}"
    said = [f"left out: {metrics['metrics_left_out']}"] if metrics.get("metrics_left_out") else []
    for name, what in (("without_mask", "have no mask"), ("with_empty_mask", "have an empty mask")):
        count = metrics.get(f"anomalous_images_{name}")
        said += [f"{count} anomalous images {what}, and are not in pixel metrics"] if count else []
    return "; ".join(said) or None


def _cell(found: dict, key: str | None) -> str:
    if key is None:
        return ""
    value = found[key]
    return value if isinstance(value, str) else "-" if value is None else f"{value:.4f}"
