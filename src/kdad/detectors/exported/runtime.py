"""What all formats of exported files have in common, and which one a file is of."""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from kdad.detectors.exported.parameters import FileFormat
from kdad.errors import InputError

#: By format: the module below this package, the file's ending, and the packages that writing takes beside torch.
_MODULES: dict[FileFormat, str] = {"onnx": "onnx_file", "torch_export": "torch_file", "openvino": "openvino_file"}
ENDINGS: dict[FileFormat, str] = {"onnx": ".onnx", "torch_export": ".pt2", "openvino": ".xml"}
#: What the inputs and outputs of every file are called.
IMAGE, PREPARED, SCORE, MAP = "image", "prepared", "score", "map"


class Runtime(ABC):
    """An exported file that runs: from pixels to scores and maps, or from prepared images."""

    @abstractmethod
    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return scores `(B,)`, and maps `(B, h, w)` where there are some, of uint8 RGB `(B, H, W, 3)` of any size."""

    @abstractmethod
    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the same of float32 images `(B, 3, h, w)` in [0, 1], prepared as the detector's are."""


class ExportedModule(nn.Module):
    """Pixels, then a detector's graph: what is exported, in two parts that are known by their names."""

    def __init__(self, pixels: nn.Module, graph: nn.Module) -> None:
        super().__init__()
        self.pixels, self.graph_part = pixels, graph

    def forward(self, image):
        """Return scores, and maps."""
        return self.graph_part(self.pixels(image))


class FileKind(ABC):
    """How files of a format are written and read."""

    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()  # that reading takes
    packages_to_write: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build(
        self, whole: ExportedModule, size: tuple[int, int], path: Path, precision: str, normal: np.ndarray | None
    ) -> None:
        """Write a file without metadata to `path`; `normal` are prepared images, by which int8 is calibrated."""

    @abstractmethod
    def write_metadata(self, path: Path, texts: dict[str, str], target: Path) -> None:
        """Write the file with its metadata to `target`."""

    @abstractmethod
    def read_texts(self, path: Path) -> dict[str, str]:
        """Return the file's metadata; raises `InputError` for a file that is none of this format, or is cut short."""

    @abstractmethod
    def open(self, path: Path, precision: str) -> Runtime:
        """Open the file to run it; raises `InputError` as `read_texts` does."""


def kind_of(format: FileFormat, writes: bool = False) -> FileKind:
    """Return how files of a format are handled; raises `InputError` when a package is missing, saying which extra."""
    kind: FileKind = import_module(f"kdad.detectors.exported.{_MODULES[format]}").KIND
    for package in kind.packages_to_write if writes else kind.packages:
        require(package, kind.extra)
    return kind


def require(package: str, extra: str) -> Any:
    """Import a package that an extra brings; raises `InputError` that says how to get it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"the package '{package}' is not installed ({error}); run `pip install \"kdad[{extra}]\"`"
        ) from error


def unreadable(path: Path, what: str, error: Exception) -> InputError:
    """Return the error of a file that its runtime cannot read."""
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"'{path}' cannot be read as {what} ({reason}); it is cut short, or of another kind: take an undamaged copy, "
        "or export the detector again"
    )
