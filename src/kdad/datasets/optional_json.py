"""A JSON file that need not be there."""

from typing import Any

from kedro_datasets.json import JSONDataset


class OptionalJsonDataset(JSONDataset):
    """A JSON file; loads None when it is missing, so that a summary can say what has not been run."""

    def load(self) -> Any:
        """Return the file's content, or None without a file."""
        return super().load() if self.exists() else None
