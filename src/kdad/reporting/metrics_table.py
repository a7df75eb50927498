"""The short table that ends a run."""

from pathlib import Path

from rich.table import Table

from kdad.reporting.threshold_remarks import counted, interval_of, threshold_remarks
from kdad.scoring.threshold import Threshold

_ROWS = {
    "AUROC": ("image_auroc", "pixel_auroc"),
    "95 % interval": ("interval", None),
    "average precision": ("image_ap", "pixel_ap"),
    "F1, best threshold": ("image_f1_max", None),
    "PRO": (None, "pro_auc"),
    "AUROC, MKD protocol": (None, "pixel_auroc_mkd_protocol"),
}


def console_table(metrics: dict) -> Table:
    """Return a table of a run's metrics: a column for images, and one for the pixels of each localisation method.

    Below are the threshold, the false positive rate that it promises, and what came of it on test images; what is odd
    about it is said in words.
    """
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
    if metrics.get("threshold"):
        table.add_section()
        for name, said in _threshold_rows(metrics).items():
            table.add_row(name, said)
    notes = [f"remark: {remark}" for remark in threshold_remarks(metrics)]
    if metrics["localisation_left_out"]:
        notes.insert(0, f"pixel metrics left out: {metrics['localisation_left_out']}")
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def places_text(places: dict[str, Path | str]) -> str:
    """Return the lines that say where results are."""
    return "\n".join(f"{title}: {place}" for title, place in places.items())


def _threshold_rows(metrics: dict) -> dict[str, str]:
    threshold = Threshold.model_validate(metrics["threshold"])
    folds = f", {threshold.folds} folds" if threshold.scores_of == "folds" else ""
    return {
        "threshold": f"{threshold.value:.4g}",
        "false positives promised": f"{100 * threshold.expected_false_positive_rate:.1f} %",
        "  95 % interval": interval_of(threshold),
        "  by normal images": f"{threshold.normal_images}{folds}",
        "false positives observed": counted(metrics["false_positive_rate"], metrics["test_normal"]),
        "anomalous images found": counted(metrics["true_positive_rate"], metrics["test_anomalous"]),
    }


def _cell(found: dict, key: str | None) -> str:
    if key is None:
        return ""
    value = found[key]
    return value if isinstance(value, str) else "-" if value is None else f"{value:.4f}"
