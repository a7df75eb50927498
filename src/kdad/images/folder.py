"""Images and masks from a folder of files."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.decoding import decode_image, decode_mask, decode_raw
from kdad.images.file_facts import FileFacts, measure_file
from kdad.images.fitting import fit_image, fit_mask
from kdad.images.folder_layout import find_category, read_layout
from kdad.images.image_set import ImageSet, Sample, hash_content
from kdad.images.preparation import Preparation
from kdad.images.training_range import find_range
from kdad.parameters.dataset import DatasetParameters
from kdad.progress import counted


class FolderSet(ImageSet):
    """The files below `root` / `category` (layouts: `read_layout`); ids are paths from there, in sorted order.

    Raises `InputError` for a missing root or category, or when there is no image; what is wrong with single files is
    in `problems`.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        base = find_category(Path(parameters.root).expanduser(), parameters.category)
        self._fit, self._range_rule = parameters.fit, parameters.value_range
        self._facts: dict[int, FileFacts] = {}
        self._layout = read_layout(base)
        self._files = self._layout.images
        self.samples = [
            Sample(
                file.path.relative_to(base).as_posix(),
                int(file.kind != "good"),
                file.kind,
                file.subset,
                file.mask is not None,
            )
            for file in self._files
        ]

    @cached_property
    def preparation(self) -> Preparation:
        """The fit that the parameters say, and the range of values that they say or that training images use."""
        training = [file.path for file in self._files if file.subset == "train"]
        return Preparation(self._fit, find_range(training, self._range_rule))

    def image(self, index: int) -> np.ndarray:
        """Return the image, fitted; raises `InputError` when the file cannot be read."""
        decoded = decode_image(self._files[index].path, self.preparation.values)
        return fit_image(decoded, self.size, self.preparation.fit)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask, fitted as the image, or None; raises `InputError` when the file cannot be read."""
        path = self._files[index].mask
        return None if path is None else fit_mask(decode_mask(path), self.size, self.preparation.fit)

    def problems(self) -> list[str]:
        """List misplaced, unreadable and mismatched files; decodes every file once."""
        found = list(self._layout.problems)
        preparation = None
        try:
            preparation = self.preparation
        except InputError as error:  # no range for all files; those that cannot be read are named beside it
            found.append(str(error))

        def measure(path: Path) -> FileFacts:
            raw = decode_raw(path)
            if preparation is not None:
                raw.range_of(preparation.values, str(path))
            return measure_file(path, raw)

        for index, file in enumerate(counted(self._files, "Checking images")):
            facts = _decode_or_note(measure, file.path, found)
            mask = _decode_or_note(decode_mask, file.mask, found) if file.mask is not None else None
            if facts is None:
                continue
            self._facts[index] = facts
            if mask is not None and mask.shape != (facts.height, facts.width):
                found.append(
                    f"{file.mask}: is {mask.shape[0]} x {mask.shape[1]}, its image {facts.height} x {facts.width} "
                    "(height x width); make them equal"
                )
        return found

    def facts(self, index: int) -> FileFacts:
        """Return what is known of the image's file since `problems`, or what it is found to be now."""
        if index not in self._facts:
            path = self._files[index].path
            self._facts[index] = measure_file(path, decode_raw(path))
        return self._facts[index]

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image file's bytes, and of how they become an image where that is not as usual."""
        content = self._files[index].path.read_bytes()
        return hash_content(content if self.preparation.is_usual else content + repr(self.preparation).encode())


def _decode_or_note(decode: Callable[[Path], Any], path: Path, problems: list[str]) -> Any | None:
    """Decode a file, or add to `problems` why that fails."""
    try:
        return decode(path)
    except InputError as error:
        problems.append(str(error))
        return None
