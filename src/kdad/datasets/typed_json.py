"""Typed objects as JSON files: thresholds, and results of cases."""

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


class CaseResultsDataset(PlaceDataset):
    """The results of cases."""

    def load(self) -> list[CaseResult]:
        """Read them."""
        return [CaseResult.model_validate(result) for result in json.loads(self._filepath.read_text())]

    def save(self, data: list[CaseResult]) -> None:
        """Write them; the file is replaced as a whole."""
        replace_text(self._filepath, json.dumps([result.model_dump(mode="json") for result in data]))
