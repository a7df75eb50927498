"""Stacks of anomaly maps by name, one ``.npy`` each."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kdad.datasets.place import PlaceDataset
from kdad.storage.disk_space import create_map


class MapStackDataset(PlaceDataset):
    """Anomaly maps by name, `(N, H, W)` float32 each, memory-mapped; the folder holds just what was saved last."""

    def load(self) -> dict[str, np.ndarray]:
        """Open the stacks."""
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(self._filepath.glob("*.npy"))}

    def save(self, data: dict[str, np.ndarray]) -> None:
        """Write the stacks, and drop those of an earlier run.

        A stack that is a file already gets a second name, not a second copy, where the disk can.
        """
        self._filepath.mkdir(parents=True, exist_ok=True)
        for name, stack in data.items():
            target = self._filepath / f"{name}.npy"
            if not _link(stack, target):
                _write(stack, target)
        for path in self._filepath.glob("*.npy"):
            if path.stem not in data:
                path.unlink()


def _write(stack: np.ndarray, target: Path) -> None:
    """Write a file whole: an interruption, or a disk without room for it, leaves an older one as it was."""
    temporary = target.with_suffix(".tmp")
    try:
        written = create_map(temporary, np.float32, stack.shape)
        written[...] = stack
        written.flush()
        del written  # a file that is open has no other name on Windows
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _link(stack: np.ndarray, target: Path) -> bool:
    """Name the file behind a whole memory map `target`; False where there is none or the disk cannot."""
    if not isinstance(stack, np.memmap) or stack.filename is None or not Path(stack.filename).exists():
        return False  # also of a map whose file is gone already, which leaves nothing behind
    whole = np.load(stack.filename, mmap_mode="r")
    if whole.shape != stack.shape or whole.dtype != stack.dtype:
        return False
    if target.exists() and target.samefile(stack.filename):
        return True
    try:
        with TemporaryDirectory(dir=target.parent) as folder:
            os.link(stack.filename, Path(folder) / target.name)
            os.replace(Path(folder) / target.name, target)
    except OSError:
        return False
    return True
