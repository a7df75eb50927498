"""Nodes of the pipeline `inference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kdad.compute import prepare_compute
from kdad.datasets.judgements import Judgements, JudgementStream
from kdad.detectors.detector import Detector
from kdad.detectors.judgement import JudgedFile
from kdad.errors import InputError
from kdad.images.labels import label_by_folder
from kdad.metrics.measure import measure_detection
from kdad.parameters.inference import InferenceParameters
from kdad.parameters.scoring import MeasuringParameters
from kdad.parameters.source import ComputeParameters
from kdad.reporting.judgements import draw_contact_sheet, render_judgements

_SHOWN_PROBLEMS = 10


def judge_images(
    detector: Detector, images: list[tuple[str, Path]], inference: InferenceParameters, compute: ComputeParameters
) -> JudgementStream:
    """Judge every image file as it is written, a batch in memory at once; files that cannot be read say why."""
    prepare_compute(compute)
    if detector.threshold is None:
        raise InputError("the detector has no threshold; run the pipeline 'calibration' on it first")
    paths = [path for _, path in images]
    if inference.maps and not detector.methods:
        raise InputError(
            f"inference.maps is asked for, but a detector of '{detector.system}' makes no maps; leave it out"
        )

    def files() -> Iterator[tuple[str, JudgedFile, int | None]]:
        labels = label_by_folder(paths)
        judged = _with_progress(detector.judge_files(paths, inference.batch_size), len(paths))
        for (name, _), label, found in zip(images, labels, judged, strict=True):
            yield name, found, label

    map_size = detector.size if inference.maps else None
    return JudgementStream(files(), len(paths), detector.map_limits, inference.heat_maps, map_size)


def report_judgements(
    detector: Detector,
    judgements: Judgements,
    inference: InferenceParameters,
    measuring: MeasuringParameters,
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet, write the page, and compare with labels where the folder has them."""
    table, made = judgements.table, detector.record
    judged = table[table["score"].notna()].reset_index(drop=True)
    labelled = judged[judged["label"].notna()]
    metrics: dict[str, Any] = {
        "images": len(table),
        "unreadable": len(table) - len(judged),
        "anomalous": int(judged["decision"].sum()),
        "milliseconds_an_image": float(table["milliseconds"].mean()),
        "labelled": len(labelled),
    }
    if len(labelled):
        rows = labelled.astype({"label": int, "decision": int})
        metrics |= measure_detection(rows, measuring)
    facts = [
        ("Detector", f"{detector.system}, {made.get('folder', '')}"),
        ("Made on", f"{made.get('dataset')} / {made.get('category')}, seed {made.get('seed')}, {made.get('made')}"),
        ("Commit", str(made.get("commit") or "unknown")),
        (
            "Threshold",
            f"{detector.threshold.value:.6g}, by {detector.threshold.rule}: {detector.threshold.statement()}",
        ),
        ("Images", f"{len(judged)} judged, {metrics['anomalous']} anomalous, {metrics['unreadable']} unreadable"),
        ("Labels", _labels_said(labelled)),
    ]
    thumbnails = judged["thumbnail"]
    sheet = draw_contact_sheet(judged, lambda row: judgements.thumbnail(thumbnails[row]), inference.sheet_images)
    shown = {name: value for name, value in metrics.items() if name in _HEADLINE} if len(labelled) else None
    return sheet, render_judgements(f"Judgements: {inference.images}", facts, table, shown), metrics


_HEADLINE = ("image_auroc", "image_ap", "image_f1_max", "false_positive_rate", "true_positive_rate")


def stop_on_unreadable(judgements: Judgements, page: str) -> None:
    """Raise `InputError` when files could not be read; taking the `page`, it comes after everything is reported."""
    table = judgements.table
    problems = table.loc[table["score"].isna(), "problem"]
    if len(problems):
        lines = [f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
        more = [f"  and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        raise InputError(
            f"{len(problems)} of {len(table)} files could not be read; all others are judged:\n"
            + "\n".join(lines + more)
        )


def _labels_said(labelled: pd.DataFrame) -> str:
    if labelled.empty:
        return "none known: no folder 'good'"
    normal = int((labelled["label"] == 0).sum())
    return f"{normal} normal ('good'), {len(labelled) - normal} anomalous (in folders beside 'good')"


def _with_progress(judged: Iterator[JudgedFile], count: int) -> Iterator[JudgedFile]:
    columns = [TextColumn("Judging"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("", total=count, rate="")
        for found in judged:
            yield found
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
