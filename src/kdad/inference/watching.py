"""A folder is watched: files are predicted as they arrive, and each is on the disk before the next is begun."""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from kdad.detectors.predictor import FilePrediction, Predictor
from kdad.errors import PLAIN, InputError
from kdad.inference.arrivals import Arrival, IncomingFiles, Stamp
from kdad.inference.description import describe_seen
from kdad.inference.parameters import InferenceParameters
from kdad.inference.predictions import (
    COLUMNS,
    JOURNAL,
    PAGE,
    TABLE,
    AnyPredictor,
    Groups,
    PredictedFiles,
    Predictions,
    check_apart,
    count_groups,
    open_table,
    read_predictions,
)
from kdad.parameters.written_names import printable
from kdad.reporting.predictions import render_predictions
from kdad.scoring.drift import Drift, NormalReference, latest_look
from kdad.storage.disk_space import disk_full_error
from kdad.storage.replacing import flush_to_disk, is_taken, replace_text

logger = logging.getLogger(__name__)


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
        self._groups: dict[str, float | None] = {}
        self._said = "unchanged"
        self.files = self.predicted = self.anomalous = self.seen = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row of the table."""
        self._latest.append(row)
        self.files += 1
        if row.get("group"):
            self._groups[row["group"]] = row.get("group_decision")
        if row.get("score") is None or pd.isna(row["score"]):
            return
        self.predicted += 1
        self.anomalous += int(row["decision"])
        self.seen += int(row.get("seen") == 1)
        if row["threshold"] == self._reference.threshold.value and row.get("seen") != 1:
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

    @property
    def found(self) -> str:
        """How many files were predicted, and how many are anomalous; of groups the same."""
        found = f"{self.predicted} predicted, {self.anomalous} anomalous, {self.files - self.predicted} unreadable"
        return f"{found}; {count_groups(self._groups)[0]}" if self._groups else found

    def page(self) -> str:
        """Return the page; when drift has begun, say so in the log."""
        drift = self.drift
        if drift is not None and drift.verdict != self._said:
            self._said = drift.verdict
            log_drift(drift, f" after {self._compared} images")
        found = self.found
        if self.files > len(self._latest):
            found += f"; shown are the latest {len(self._latest)}, all are in {TABLE}"
        step = self._inference.drift.window // 2
        said = f"first looked at after {step} images" if drift is None else drift.statement()
        facts = [*self._understood, *describe_seen(self.seen), ("Found", found), ("Drift", said)]
        return render_predictions(f"Watched: {printable(self._inference.images)}", facts, self.table, None)

    def metrics(self) -> dict[str, Any]:
        """Return counts, and numbers of drift."""
        counts = {"images": self.files, "unreadable": self.files - self.predicted, "anomalous": self.anomalous}
        counts |= {"seen": self.seen} | (count_groups(self._groups)[1] if self._groups else {})
        drift = self.drift
        numbers = {} if drift is None else drift.numbers()
        return counts | {f"drift_{name}": value for name, value in numbers.items()}


class Journal:
    """An append-only file whose first line says what all others belong to; `earlier` is what it held when opened.

    A process that is killed while it appends leaves the beginning of a line, which the next removes. Raises
    `InputError` for a journal that belongs to something else, or is none.
    """

    def __init__(self, path: Path, heading: dict[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _complete_lines(path)
        self.earlier: list[dict[str, Any]] = []
        if known:
            found, *self.earlier = known
            _check_heading(path, found, heading)
        self._file: IO[bytes] = path.open("ab")
        if not known:
            self.append(heading)
            flush_to_disk(path.parent, whole=False)  # its name

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry; when this returns, it is on the disk."""
        self._file.write(json.dumps(entry).encode() + b"\n")  # ASCII: no name of a file breaks a line
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a journal says, and cut off a line that was not finished; nothing where there is none."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is no mapping")
    except ValueError as error:
        raise InputError(
            f"'{path}' is not as it was written ({error}); take an undamaged copy, or give inference.output another "
            "folder"
        ) from error
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
    return lines


def _check_heading(path: Path, found: dict[str, Any], heading: dict[str, Any]) -> None:
    other = [name for name, value in heading.items() if found.get(name) != value]
    if other:
        was = ", ".join(f"{name} {found.get(name)}" for name in other)
        now = ", ".join(f"{name} {heading[name]}" for name in other)
        raise InputError(
            f"'{path.parent}' holds what was predicted with {was}, and this watch has {now}; give inference.output a "
            "new folder, or go on as before"
        )


class Watch:
    """Predicts what arrives in a folder, and leaves a table, pictures, a page and a journal in `output`.

    The journal is what counts: a file is done when its line is on the disk. The table is made of it anew when a watch
    begins, then grows with it. `heading` says what all predictions of a journal have in common. The row of a file of
    one of the `groups` has what is decided of it by the files that have come.
    """

    def __init__(
        self,
        output: Path,
        folder: Path,
        predictor: AnyPredictor,
        heading: dict[str, Any],
        report: WatchReport,
        inference: InferenceParameters,
        seen: frozenset[str] = frozenset(),
        groups: Groups | None = None,
    ) -> None:
        self._output, self._folder, self._predictor, self._heading = output, folder, predictor, heading
        self._report, self._inference, self._groups = report, inference, groups
        mark = predictor.regions if isinstance(predictor, Predictor) else None
        self._pictures = PredictedFiles(output, predictor.colour_limits, inference.heat_maps, seen, mark)
        self._page_due, self._page_is_old = 0.0, True

    def run(self, is_stopped: Callable[[], bool]) -> Predictions:
        """Predict until `is_stopped`, or the time is over, going on from what an earlier watch has left.

        Raises `InputError` for an output that holds anything else, or predictions by another detector.
        """
        check_apart(self._output.resolve(), self._folder.resolve())
        if is_taken(self._output, JOURNAL):
            raise InputError(
                f"'{self._output}' is there already and holds no watch's predictions; give inference.output another"
            )
        with disk_full_error(self._output):
            journal = Journal(self._output / JOURNAL, self._heading)
            try:
                self._run(journal, is_stopped)
            finally:
                journal.close()
        return read_predictions(self._output)

    def _run(self, journal: Journal, is_stopped: Callable[[], bool]) -> None:
        incoming = IncomingFiles(self._folder, self._take_up(journal), self._inference.watching)
        logger.info("Results: %s", printable(str(self._output)), extra=PLAIN)
        with open_table(self._output / TABLE, "a", self._groups is not None) as table:
            for arrived in predict_arrivals(self._predictor, incoming, self._inference, is_stopped):
                if arrived is not None:
                    arrival, predicted = arrived
                    # Pictures first, then the journal, then the table.
                    row = self._pictures.add(arrival.name, predicted)
                    if self._groups is not None:
                        self._groups.take(row)
                        row |= self._groups.decide(row)
                    journal.append({"row": row, "stamp": arrival.stamp})
                    self._report.add(row)
                    self._page_is_old = True
                    table.writerow(row)
                    del arrived, predicted  # a large image is not kept while the next is predicted
                self._renew_page()

    def _take_up(self, journal: Journal) -> dict[str, Stamp]:
        """Make the table of what the journal holds; return what is done."""
        partial = self._output / f"{TABLE}.tmp"
        done: dict[str, Stamp] = {}
        with open_table(partial, "w", self._groups is not None) as table:
            for entry in journal.earlier:
                row = entry["row"]
                if self._groups is not None:
                    self._groups.take(row)
                table.writerow(row)
                done[row["path"]] = tuple(entry["stamp"])
                self._pictures.take_up(row)
                self._report.add(row)
        os.replace(partial, self._output / TABLE)
        if done:
            logger.info("Going on: %d files are predicted already", len(journal.earlier))
        journal.earlier.clear()
        return done

    def _renew_page(self) -> None:
        if self._page_is_old and time.monotonic() >= self._page_due:
            replace_text(self._output / PAGE, self._report.page())
            self._page_is_old, self._page_due = False, time.monotonic() + self._inference.watching.page_seconds


def predict_arrivals(
    predictor: AnyPredictor, incoming: IncomingFiles, inference: InferenceParameters, is_stopped: Callable[[], bool]
) -> Iterator[tuple[Arrival, FilePrediction] | None]:
    """Yield files with their predictions in the order in which they are complete, and None when there is none.

    A file that was written meanwhile, or cannot be read at first, is left for later. When `is_stopped`, it ends after
    the file that is being predicted.
    """
    idle_seconds, seconds = inference.watching.idle_seconds, inference.watching.seconds
    began = latest = time.monotonic()
    try:
        while not is_stopped():
            arrivals = incoming.take(inference.batch_size)
            results = predictor.predict_files([arrival.path for arrival in arrivals], inference.batch_size)
            for arrival in arrivals:
                predicted = None  # a large image is not kept while the next is predicted
                predicted = next(results)
                latest = time.monotonic()
                if incoming.stamp_of(arrival.path) != arrival.stamp:
                    incoming.put_back(arrival)
                    continue
                if predicted.prediction is None and incoming.try_again(arrival):
                    continue
                if predicted.prediction is None:
                    logger.warning("Cannot be read: %s", printable(predicted.problem), extra=PLAIN)
                yield arrival, predicted
                incoming.finish(arrival)
                if is_stopped():
                    break
            if not arrivals:
                yield None
            now = time.monotonic()
            if idle_seconds is not None and not incoming.waiting and now - latest >= idle_seconds:
                return
            if seconds is not None and now - began >= seconds:
                return
        logger.info("Told to end: what is predicted is kept, and the same command goes on from there")
    finally:
        incoming.close()


def log_drift(drift: Drift, after: str = "") -> None:
    """Say in one line of the log what was found, `after` what: a warning where it has changed."""
    level = logging.WARNING if drift.verdict == "changed" else logging.INFO
    logger.log(level, "Drift%s: %s", after, drift.statement())
