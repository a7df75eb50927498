"""Typed objects as JSON files: thresholds, and results of cases that need not be there yet."""

import json

from kdad.datasets.place import PlaceDataset
from kdad.experiments.result import CaseResult
from kdad.scoring.threshold import Threshold
from kdad.storage.replacing import replace_text


class ThresholdDataset(PlaceDataset):
    """A threshold with what it promises."""

    def load(self) -> Threshold:
        """Read it."""
        return Threshold.model_validate_json(self._filepath.read_text())

    def save(self, data: Threshold) -> None:
        """Write it; the file is replaced as a whole."""
        replace_text(self._filepath, data.model_dump_json(indent=1))


class CaseResultDataset(PlaceDataset):
    """A case's result; loads None when it is missing, so that a summary can say what has not been run."""

    may_be_absent = True

    def load(self) -> CaseResult | None:
        """Read it, or return None without a file, or for one that another version wrote."""
        if not self._filepath.is_file():
            return None
        try:
            return CaseResult.model_validate_json(self._filepath.read_text())
        except ValueError:
            return None

    def save(self, data: CaseResult) -> None:
        """Write it."""
        replace_text(self._filepath, data.model_dump_json())


class CaseResultsDataset(PlaceDataset):
    """The results of an axis; loads None when they are missing."""

    may_be_absent = True

    def load(self) -> list[CaseResult] | None:
        """Read them, or return None without a file, or for one that another version wrote."""
        if not self._filepath.is_file():
            return None
        try:
            return [CaseResult.model_validate(found) for found in json.loads(self._filepath.read_text())]
        except ValueError:
            return None

    def save(self, data: list[CaseResult]) -> None:
        """Write them."""
        replace_text(self._filepath, json.dumps([result.model_dump(mode="json") for result in data]))
