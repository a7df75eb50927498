"""torch.export: a program in one file, run by torch without the code that made it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.exported.facts import KEY
from kdad.detectors.exported.runtime import FileKind, Runtime, Whole, unreadable
from kdad.detectors.exported.tracing import pixel_dimensions, sample_pixels, traced

_FACTS = f"{KEY}.json"


class TorchKind(FileKind):
    """Files of torch.export."""

    def build(self, whole: Whole, size: tuple[int, int], path: Path, precision: str, normal: np.ndarray | None) -> None:
        """Write both parts as one program, in which they can be told apart."""
        program = traced(whole, sample_pixels(), pixel_dimensions())
        program.example_inputs = None  # which would be the one thing in the file that is pickled
        torch.export.save(program, path)

    def stamp(self, path: Path, texts: dict[str, str], target: Path) -> None:
        """Write the metadata as a file within the file."""
        torch.export.save(torch.export.load(path), target, extra_files={_FACTS: texts[KEY]})

    def read_texts(self, path: Path) -> dict[str, str]:
        """Return what the file within holds."""
        return _read(path)[1]

    def open(self, path: Path, precision: str) -> "TorchRuntime":
        """Open the file."""
        return TorchRuntime(path)


class TorchRuntime(Runtime):
    """The program, and the part of it that comes after the pixels."""

    def __init__(self, path: Path) -> None:
        self._whole = torch.export.unflatten(_read(path)[0])

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the whole program."""
        return _run(self._whole, torch.from_numpy(image))

    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the part that is a detector's graph."""
        return _run(self._whole.graph_part, torch.from_numpy(images))


@torch.no_grad()
def _run(module, array: Tensor) -> tuple[np.ndarray, ...]:
    found = module(array)
    outputs = found if isinstance(found, Sequence) else (found,)
    # A part of a program gives its outputs in an order of its own: scores have one dimension, maps three.
    return tuple(one.numpy() for one in sorted(outputs, key=Tensor.dim))


def _read(path: Path):
    facts = {_FACTS: ""}
    try:
        program = torch.export.load(path, extra_files=facts)
    except Exception as error:  # torch raises whatever its readers meet in a foreign file
        raise unreadable(path, "a program of torch.export", error) from error
    return program, {KEY: facts[_FACTS]} if facts[_FACTS] else {}


KIND = TorchKind()
