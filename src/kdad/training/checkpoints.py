"""A checkpoint: everything that an interrupted training needs to go on to the same numbers."""

import hashlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdad.storage.replacing import replacing_file

logger = logging.getLogger(__name__)

#: The name of a training's checkpoint in the folder that it fills.
CHECKPOINT = "training.checkpoint"
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class CheckpointFile:
    """One file, replaced as a whole; its key says which training it belongs to, its last 32 bytes are its SHA-256."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary name, then rename: a kill, or a disk that is full, leaves the older checkpoint."""
        with replacing_file(self.path) as temporary, temporary.open("w+b") as file:
            torch.save({"key": self.key, **state}, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0, os.SEEK_END)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None when there is none or it belongs to a training with other settings.

        A file that was cut short or changed is named in a warning, and not used: the training begins anew.
        """
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            logger.warning("The checkpoint '%s' is damaged (its SHA-256 is another): training anew", self.path)
            return None
        state = torch.load(io.BytesIO(content[:-_DIGEST]), map_location="cpu", weights_only=True)
        return state if state.get("key") == self.key else None
