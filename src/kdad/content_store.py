"""A store of finished work by content: a key says everything that a result depends on."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def content_key(**content: Any) -> str:
    """Return 16 hexadecimal digits that differ whenever any of `content` (anything that JSON can hold) does."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ContentStore:
    """Folders named by keys, in `root`; a folder that exists is complete."""

    root: Path

    def obtain(self, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the key's folder and whether it was there already; else `build` fills it.

        It is filled under a temporary name, which stays when the process is killed: `build` may find there what an
        interrupted run left, such as a checkpoint, and go on. What fails leaves nothing.
        """
        folder = self.root / key
        if folder.is_dir():
            return folder, True
        partial = self.root / f"{key}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        try:
            build(partial)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        os.replace(partial, folder)
        return folder, False


@dataclass(frozen=True)
class Stores:
    """Where finished work lies: frozen networks' outputs, trained networks, and what cases made of them."""

    features: Path
    models: Path
    cases: Path

    @classmethod
    def below(cls, folder: Path) -> "Stores":
        """Return stores in subfolders of `folder`."""
        return cls(folder / "features", folder / "models", folder / "cases")
