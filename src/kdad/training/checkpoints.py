"""A checkpoint: everything that an interrupted training needs to go on to the same numbers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdad.disk_space import told_when_full
from kdad.errors import InputError

#: The name of a training's checkpoint in the folder that it fills.
CHECKPOINT = "training.checkpoint"


@dataclass(frozen=True)
class CheckpointFile:
    """One file, replaced as a whole; its key says which training it belongs to."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary name, then rename: a kill, or a disk that is full, leaves the older checkpoint."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        try:
            with told_when_full(self.path), temporary.open("wb") as file:
                torch.save({"key": self.key, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

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
