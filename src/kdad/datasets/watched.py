"""What a watch leaves: a table that grows by a row a file, pictures, a page, and the journal that makes them whole."""

import csv
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kdad.datasets.place import PlaceDataset
from kdad.datasets.predicted_files import HeatMapPlaces, draw_file, row_of
from kdad.datasets.predictions import COLUMNS, JOURNAL, TABLE, Predictions, check_apart, read_predictions
from kdad.detectors.prediction import FilePrediction
from kdad.errors import InputError
from kdad.inference.arrivals import Arrival, Stamp
from kdad.inference.journal import Journal
from kdad.logs import PLAIN
from kdad.reporting.file_names import printable
from kdad.storage.disk_space import disk_full_error
from kdad.storage.replacing import is_taken, replace_text

logger = logging.getLogger(__name__)

PAGE = "predictions.html"


class Report(Protocol):
    """What is said of rows as they come."""

    def add(self, row: dict[str, Any]) -> None:
        """Take in a row of the table."""

    def page(self) -> str:
        """Return the page of what was taken in."""


@dataclass(frozen=True)
class WatchStream:
    """Files that arrive in a folder with their predictions; None for a while in which none came.

    `judged` is given what is done already, by name. When it is asked for the next file, the one before is on the disk.
    `heading` says what all predictions of a journal have in common.
    """

    place: Path
    judged: Callable[[dict[str, Stamp]], Iterator[tuple[Arrival, FilePrediction] | None]]
    heading: dict[str, Any]
    report: Report
    limits: tuple[float, float] | None
    heat_maps: bool
    page_seconds: float


class WatchedPredictionsDataset(PlaceDataset):
    """A folder with ``journal.jsonl``, ``predictions.csv``, ``predictions.html``, ``heat_maps`` and ``thumbnails``.

    The journal is what counts: a file is judged when its line is on the disk. The table is made of it anew when a watch
    begins, then grows with it.
    """

    def load(self) -> Predictions:
        """Read the table."""
        return read_predictions(self._filepath)

    def save(self, data: WatchStream) -> None:
        """Judge and write until the stream ends, going on from what an earlier watch has left.

        Raises `InputError` for a folder that holds anything else, or predictions by another detector.
        """
        folder = self._filepath
        check_apart(folder.resolve(), data.place.resolve())
        if is_taken(folder, JOURNAL):
            raise InputError(
                f"'{folder}' is there already and holds no watch's predictions; give inference.output another"
            )
        with disk_full_error(folder):
            journal = Journal(folder / JOURNAL, data.heading)
            try:
                _Watch(folder, journal, data).run()
            finally:
                journal.close()


class _Watch:
    """One watch's writing: pictures first, then the journal's line, then the table's row."""

    def __init__(self, folder: Path, journal: Journal, data: WatchStream) -> None:
        self._folder, self._journal, self._data = folder, journal, data
        self._places, self._count = HeatMapPlaces(), 0
        self._done: dict[str, Stamp] = {}
        self._page_due, self._page_is_old = 0.0, True

    def run(self) -> None:
        self._take_up()
        logger.info("Results: %s", printable(str(self._folder)), extra=PLAIN)
        with (self._folder / TABLE).open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.DictWriter(file, COLUMNS)
            for found in self._data.judged(self._done):
                if found is not None:
                    table.writerow(self._keep(*found))
                    file.flush()
                    del found  # a large image is not kept while the next is judged
                self._renew_page()

    def _take_up(self) -> None:
        """Make the table of what the journal holds."""
        rows = []
        for entry in self._journal.earlier:
            row = entry["row"]
            rows.append(row)
            self._done[row["path"]] = tuple(entry["stamp"])
            self._count_in(row)
        self._journal.earlier.clear()
        partial = self._folder / f"{TABLE}.tmp"
        with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(rows)
        os.replace(partial, self._folder / TABLE)
        if rows:
            logger.info("Going on: %d files are judged already", len(rows))

    def _keep(self, arrival: Arrival, judged: FilePrediction) -> dict[str, Any]:
        row = row_of(arrival.name, judged, None)
        if judged.prediction is not None:
            place = self._places.choose(arrival.name, self._count)
            row |= draw_file(self._folder, self._count, place, judged, self._data.limits, self._data.heat_maps)
        self._journal.append({"row": row, "stamp": arrival.stamp})
        self._count_in(row)
        return row

    def _count_in(self, row: dict[str, Any]) -> None:
        if row.get("heat_map"):
            self._places.take(row["heat_map"])
        self._count += 1
        self._data.report.add(row)
        self._page_is_old = True

    def _renew_page(self) -> None:
        now = time.monotonic()
        if self._page_is_old and now >= self._page_due:
            replace_text(self._folder / PAGE, self._data.report.page())
            self._page_is_old, self._page_due = False, time.monotonic() + self._data.page_seconds
