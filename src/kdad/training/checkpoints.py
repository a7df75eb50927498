"""A checkpoint: everything that an interrupted training needs to go on to the same numbers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdad.errors import InputError


@dataclass(frozen=True)
class CheckpointFile:
    """One file, replaced as a whole; its key says which training it belongs to."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary name, then rename: a kill leaves the older checkpoint."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        torch.save({"key": self.key, **state}, temporary)
        os.replace(temporary, self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None when there is none or it belongs to a training with other settings.

        Raises `InputError` when the file cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the reader meets in a damaged file
            raise InputError(
                f"the checkpoint '{self.path}' cannot be read; delete it to train from the start"
            ) from error
        return state if state.get("key") == self.key else None

    def clear(self) -> None:
        """Remove the file; the training is complete."""
        self.path.unlink(missing_ok=True)
