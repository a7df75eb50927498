"""torch.export: a program in one file, run by torch without the code that made it."""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.exported.facts import KEY
from kdad.detectors.exported.runtime import ExportedModule, FileKind, Runtime, unreadable
from kdad.detectors.exported.tracing import pixel_dimensions, sample_pixels, traced
from kdad.errors import InputError

_FACTS = f"{KEY}.json"
#: What files of weights and constants are called that hold plain tensors.
_PLAIN = re.compile(r"(weight|tensor)_\d+$")


class TorchKind(FileKind):
    """Files of torch.export."""

    def build(
        self, whole: ExportedModule, size: tuple[int, int], path: Path, precision: str, normal: np.ndarray | None
    ) -> None:
        """Write both parts as one program, in which they can be told apart."""
        program = traced(whole, sample_pixels(), pixel_dimensions())
        program.example_inputs = None  # which would be the one thing in the file that is pickled
        _save(program, path)

    def write_metadata(self, path: Path, texts: dict[str, str], target: Path) -> None:
        """Write the metadata as a file within the file."""
        program = torch.export.load(path)
        program.example_inputs = None
        _save(program, target, texts[KEY])

    def read_texts(self, path: Path) -> dict[str, str]:
        """Return what the file within holds."""
        return _read(path)[1]

    def open(self, path: Path, precision: str) -> "TorchRuntime":
        """Open the file."""
        return TorchRuntime(path)


def _save(program, path: Path, facts: str | None = None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of parts of one, which are kept whole
        torch.export.save(program, path, extra_files={} if facts is None else {_FACTS: facts})


class TorchRuntime(Runtime):
    """The program, and the part of it that comes after the pixels."""

    def __init__(self, path: Path) -> None:
        self._whole = torch.export.unflatten(_read(path)[0])

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the whole program."""
        return _run(self._whole, torch.from_numpy(np.require(image, requirements="W")))

    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the part that is a detector's graph."""
        part = self._whole.graph_part
        tensor = torch.from_numpy(np.require(images, requirements="W"))
        # A part is given the number of images, too, where it asks for that.
        inputs = [node.meta["val"] for node in part.graph.nodes if node.op == "placeholder"]
        return _run(part, *(tensor if isinstance(found, Tensor) else len(images) for found in inputs))


@torch.no_grad()
def _run(module, *inputs: Tensor | int) -> tuple[np.ndarray, ...]:
    found = module(*inputs)
    outputs = found if isinstance(found, Sequence) else (found,)
    # A part of a program gives its outputs in an order of its own: scores have one dimension, maps three.
    return tuple(one.numpy() for one in sorted(outputs, key=Tensor.dim))


def _read(path: Path):
    facts = {_FACTS: ""}
    try:
        _refuse_pickles(path)
        program = torch.export.load(path, extra_files=facts)
    except InputError:
        raise
    except Exception as error:  # torch raises whatever its readers meet in a foreign file
        raise unreadable(path, "a program of torch.export", error) from error
    return program, {KEY: facts[_FACTS]} if facts[_FACTS] else {}


def _refuse_pickles(path: Path) -> None:
    """Raise `InputError` for a file in which torch would find something to unpickle, which may be any code.

    No detector's file has such: tensors lie in it as they are.
    """
    with ZipFile(path) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        samples = any(entry.file_size for name, entry in entries.items() if name.startswith("data/sample_inputs/"))
        configs = [entry for name, entry in entries.items() if re.fullmatch(r"data/\w+/\w+_config\.json", name)]
        kept = [one for config in configs for one in json.loads(archive.read(config))["config"].values()]
    if samples or not configs or any(one["use_pickle"] or not _PLAIN.match(one["path_name"]) for one in kept):
        raise InputError(f"'{path}' holds pickled objects, which no exported detector does; it is not opened")


KIND = TorchKind()
