"""A network's weights as a safetensors file with metadata."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class NetworkWeights:
    """Tensors by name, and text that says what they were trained on."""

    state: dict[str, Tensor]
    metadata: dict[str, str]


class NetworkWeightsDataset(AbstractDataset[NetworkWeights, NetworkWeights]):
    """A safetensors file; replaced as a whole."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: NetworkWeights) -> None:
        """Write to a temporary name, then rename."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._filepath.with_suffix(".tmp")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in data.state.items()}
        save_file(state, temporary, metadata=data.metadata)
        os.replace(temporary, self._filepath)

    def load(self) -> NetworkWeights:
        """Read all tensors."""
        try:
            with safe_open(self._filepath, framework="pt") as file:
                return NetworkWeights({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise DatasetError(
                f"weights '{self._filepath}' cannot be read ({error}); train the network again"
            ) from error

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
