"""The stores of finished work, as a Kedro dataset: nodes look there before they compute."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from kdad.storage.content_store import Stores


class StoresDataset(AbstractDataset[None, Stores]):
    """Three folders of finished work, named by content."""

    def __init__(self, *, features: str, models: str, cases: str, metadata: dict[str, Any] | None = None) -> None:
        self._stores = Stores(Path(features), Path(models), Path(cases))
        self.metadata = metadata

    def load(self) -> Stores:
        """Return where they lie."""
        return self._stores

    def save(self, data: None) -> None:
        """Refuse: work is put into a store piece by piece, as it is finished."""
        raise DatasetError("stores are filled by `ContentStore.obtain`, piece by piece")

    def _describe(self) -> dict[str, Any]:
        return {"features": str(self._stores.features), "models": str(self._stores.models)}
