"""Nodes of the pipeline `inference` that watches a folder."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad.compute import prepare_compute
from kdad.datasets.predictions import COLUMNS, Predictions
from kdad.datasets.watched import WatchStream
from kdad.detectors.prediction import FilePrediction
from kdad.detectors.predictor import Predictor
from kdad.images.found import FoundImages
from kdad.inference.arrivals import Arrival, IncomingFiles, Stamp
from kdad.inference.parameters import InferenceParameters, WatchingParameters
from kdad.logs import PLAIN
from kdad.parameters.compute import ComputeParameters
from kdad.pipelines.inference.drifting import reference_of, say_drift
from kdad.pipelines.inference.predicting import FilePredictor, predict_in_batches
from kdad.pipelines.inference.tiling import describe_tiles, predict_by_tiles
from kdad.pipelines.inference.understanding import as_lines, describe_detector
from kdad.project.interruption import StopRequested
from kdad.reporting.file_names import printable
from kdad.reporting.predictions import draw_contact_sheet, render_predictions
from kdad.scoring.drift import Drift, NormalReference, latest_look

logger = logging.getLogger(__name__)


def watch_folder(
    detector: Predictor, folder: Path, inference: InferenceParameters, compute: ComputeParameters
) -> tuple[WatchStream, list[tuple[str, str]], NormalReference]:
    """Judge files as they arrive, until told to end; each is written before the next is begun.

    Returned with it are what the detector was taken for, and what scores are compared with.
    """
    prepare_compute(compute)
    detector.require_threshold()
    predictor, understood = detector, describe_detector(detector)
    heading: dict[str, Any] = {
        "format": 1,
        "folder": str(folder.resolve()),
        "detector": detector.key,
        "threshold": detector.threshold.value,
        "tiles": None,
    }
    if inference.tiles is not None:
        predictor = predict_by_tiles(detector, inference.tiles, inference.batch_size)
        understood += describe_tiles(predictor.found)
        heading["tiles"] = f"{predictor.tiling}, threshold {predictor.threshold.value!r}"
    understood.append(("Watching", printable(str(folder))))
    logger.info(as_lines("Judging what arrives, until Ctrl-C", understood), extra=PLAIN)
    reference = reference_of(predictor)

    def judged(done: dict[str, Stamp]) -> Iterator[tuple[Arrival, FilePrediction] | None]:
        return predict_arrivals(predictor, IncomingFiles(folder, done, inference.watching), inference)

    report = WatchReport(understood, reference, inference)
    heat_maps, page_seconds = inference.heat_maps, inference.watching.page_seconds
    stream = WatchStream(folder, judged, heading, report, predictor.colour_limits, heat_maps, page_seconds)
    return stream, understood, reference


def predict_arrivals(
    predictor: FilePredictor, arrivals: IncomingFiles, inference: InferenceParameters
) -> Iterator[tuple[Arrival, FilePrediction] | None]:
    """Yield files with their predictions in the order in which they are complete, and None when there is none.

    A file that was written meanwhile, or cannot be read at first, is left for later. Ctrl-C and SIGTERM end it after
    the file that is being judged.
    """
    ending = _Ending(inference.watching)
    try:
        with StopRequested() as end:
            while not end.requested:
                found = arrivals.take(inference.batch_size)
                files = FoundImages(arrivals.folder, [arrival.path for arrival in found], [])
                results = predict_in_batches(predictor, files, inference.batch_size)
                for arrival in found:
                    judged = None  # a large image is not kept while the next is judged
                    judged = next(results)
                    ending.put_off()
                    if arrivals.stamp_of(arrival.path) != arrival.stamp:
                        arrivals.put_back(arrival)
                        continue
                    if judged.prediction is None and arrivals.try_again(arrival):
                        continue
                    if judged.prediction is None:
                        logger.warning("Cannot be read: %s", printable(judged.problem), extra=PLAIN)
                    yield arrival, judged
                    arrivals.finish(arrival)
                    if end.requested:
                        break
                if not found:
                    yield None
                if ending.has_come(arrivals.waiting):
                    return
            logger.info("Told to end: what is judged is kept, and the same command goes on from there")
    finally:
        arrivals.close()


class _Ending:
    """When a watch ends by itself."""

    def __init__(self, parameters: WatchingParameters) -> None:
        self._parameters = parameters
        self._began = self._latest = time.monotonic()

    def put_off(self) -> None:
        """A file has come."""
        self._latest = time.monotonic()

    def has_come(self, waiting: int) -> bool:
        """Tell whether time is over, with so many files `waiting`."""
        now, over, idle = time.monotonic(), self._parameters.seconds, self._parameters.idle_seconds
        is_idle = idle is not None and not waiting and now - self._latest >= idle
        return is_idle or (over is not None and now - self._began >= over)


class WatchReport:
    """What is said of a watch's files: counts of all, the latest on a page, and drift."""

    def __init__(
        self, understood: list[tuple[str, str]], reference: NormalReference, inference: InferenceParameters
    ) -> None:
        self._understood, self._reference, self._inference = understood, reference, inference
        self._latest: deque[dict[str, Any]] = deque(maxlen=inference.watching.page_images)
        window = inference.drift.window
        self._scores: deque[float] = deque(maxlen=window + window // 2)
        self._compared = 0
        self._said = "unchanged"
        self.files = self.judged = self.anomalous = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row of the table."""
        self._latest.append(row)
        self.files += 1
        if row.get("score") is None or pd.isna(row["score"]):
            return
        self.judged += 1
        self.anomalous += int(row["decision"])
        if row["threshold"] == self._reference.threshold.value:
            self._scores.append(row["score"])
            self._compared += 1

    @property
    def table(self) -> pd.DataFrame:
        """The latest rows."""
        return pd.DataFrame(list(self._latest), columns=list(COLUMNS))

    @property
    def drift(self) -> Drift | None:
        """The latest look; None before the first."""
        return latest_look(np.array(self._scores), self._compared, self._reference, self._inference.drift)

    def page(self) -> str:
        """Return the page; when drift has begun, say so in the log."""
        drift = self.drift
        self._say(drift)
        found = f"{self.judged} judged, {self.anomalous} anomalous, {self.files - self.judged} unreadable"
        if self.files > len(self._latest):
            found += f"; shown are the latest {len(self._latest)}, all are in predictions.csv"
        step = self._inference.drift.window // 2
        said = f"first looked at after {step} images" if drift is None else drift.statement()
        facts = [*self._understood, ("Found", found), ("Drift", said)]
        return render_predictions(f"Watched: {printable(self._inference.images)}", facts, self.table, None)

    def metrics(self) -> dict[str, Any]:
        """Return counts, and numbers of drift."""
        counts = {"images": self.files, "unreadable": self.files - self.judged, "anomalous": self.anomalous}
        drift = self.drift
        numbers = {} if drift is None else drift.numbers()
        return counts | {f"drift_{name}": value for name, value in numbers.items()}

    def _say(self, drift: Drift | None) -> None:
        if drift is None or drift.verdict == self._said:
            return
        self._said = drift.verdict
        say_drift(drift, f" after {self._compared} images")


def report_watch(
    predictions: Predictions,
    understood: list[tuple[str, str]],
    reference: NormalReference,
    inference: InferenceParameters,
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet and write the page of the latest files, and count all of them."""
    report = WatchReport(understood, reference, inference)
    for row in predictions.table.to_dict("records"):
        report.add(row)
    latest = report.table
    latest = latest[latest["score"].notna()].reset_index(drop=True)
    logger.info("Found: %d files, %d anomalous", report.files, report.anomalous)
    thumbnails = latest["thumbnail"]
    sheet = draw_contact_sheet(latest, lambda row: predictions.thumbnail(thumbnails[row]), inference.sheet_images)
    return sheet, report.page(), report.metrics()
