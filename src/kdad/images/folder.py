"""Images and masks from files: a folder of them, or a list."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import decode_image, decode_raw, read_size
from kdad.images.files.file_facts import FileFacts, measure_file
from kdad.images.files.fitting import fit_image, fit_mask, frame_of
from kdad.images.files.mask_files import MaskFacts, describe_mask, read_masks
from kdad.images.files.preparation import Preparation
from kdad.images.files.reading_ahead import read_ahead, reading_threads
from kdad.images.files.training_range import find_range
from kdad.images.image_set import ImageSet, Sample, hash_content
from kdad.images.layouts.categories import find_category
from kdad.images.layouts.layout import ImageFile, Layout
from kdad.images.layouts.names import Vocabulary
from kdad.images.layouts.reading import read_layout, read_list
from kdad.images.layouts.remarks import ask_for_inverted, ask_for_masks, describe_layout, describe_masks
from kdad.images.splits import split_samples
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import written
from kdad.progress import counted


class FileSet(ImageSet):
    """The files of a layout; ids are paths from its base. `seed` is the run's, by which images are held out.

    Raises `InputError` when the layout cannot be understood; what is wrong with single files is in `problems`.
    """

    most_readers = 64

    def __init__(self, parameters: DatasetParameters, seed: int = 0) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        said = parameters.layout
        self._vocabulary = Vocabulary(tuple(said.normal), tuple(said.anomalous), tuple(said.masks))
        self._base, self._layout = self._read(parameters, self._vocabulary)
        self._said_of_masks, self._anomalous = said.anomalous_in_masks, said.anomalous_in_masks or "bright"
        self._mask_facts: dict[int, MaskFacts] = {}
        self._fit, self._range_rule = parameters.fit, parameters.value_range
        self._held_out, self._seed = parameters.validation_fraction, seed
        self._facts: dict[int, FileFacts] = {}
        self._files = self._layout.images
        self.samples = [
            Sample(
                written(file.path.relative_to(self._base).as_posix()),
                int(not file.is_normal),
                written(file.kind),
                file.subset,
                bool(file.masks),
            )
            for file in self._files
        ]

    @abstractmethod
    def _read(self, parameters: DatasetParameters, vocabulary: Vocabulary) -> tuple[Path, Layout]:
        """Return the base and what lies below it."""

    @cached_property
    def preparation(self) -> Preparation:
        """The fit that the parameters say, and the range of values that they say or that training images use."""
        try:
            parts = split_samples(self.samples, self._held_out, self._seed)
        except InputError:  # too few images, which the split says
            parts = [file.subset for file in self._files]
        training = [file.path for file, part in zip(self._files, parts, strict=True) if part == "train"]
        return Preparation(self._fit, find_range(training, self._range_rule))

    def image(self, index: int) -> np.ndarray:
        """Return the image, fitted; raises `InputError` when the file cannot be read."""
        return fit_image(self.whole_image(index), self.size, self.preparation.fit)

    def whole_image(self, index: int) -> np.ndarray:
        """Return the image `(3, H, W)` at its own size; raises `InputError` when the file cannot be read."""
        return decode_image(self._files[index].path, self.preparation.values)

    def whole_mask(self, index: int) -> np.ndarray | None:
        """Return the mask `(H, W)` at its own size, or None; raises `InputError` when the file cannot be read."""
        return self._file_mask(self._files[index])

    def whole_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image's file; raises `InputError` when its header cannot be read."""
        return read_size(self._files[index].path)

    def own_pixels(self, index: int) -> np.ndarray:
        """Return the file's own pixels, where it has 8 bits; raises `InputError` when it cannot be read."""
        pixels = decode_raw(self._files[index].path).pixels
        return pixels if pixels.dtype == np.uint8 else super().own_pixels(index)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask, fitted as the image, or None; raises `InputError` when the file cannot be read."""
        mask = self.whole_mask(index)
        return None if mask is None else fit_mask(mask, self.size, self._fit)

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask in the frame of `own_size`, or None; raises `InputError` when the file cannot be read."""
        mask = self.whole_mask(index)
        return None if mask is None else fit_mask(mask, frame_of(mask.shape, self.size, self._fit), self._fit)

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image's file, fitted without scaling; raises `InputError` as `mask`."""
        return frame_of(self.whole_size(index), self.size, self._fit)

    def _file_mask(self, file: ImageFile) -> np.ndarray | None:
        return read_masks(file.masks, self._anomalous) if file.masks else None

    def problems(self) -> list[str]:
        """List misplaced, unreadable and mismatched files; decodes every file once."""
        found = list(self._layout.problems)
        preparation = None
        try:
            preparation = self.preparation
        except InputError as error:  # no range for all files; those that cannot be read are named beside it
            found.append(str(error))

        looked = read_ahead(partial(self._look, preparation=preparation), self._files, reading_threads())
        for index, (_, (facts, mask_facts, wrong)) in enumerate(
            zip(counted(self._files, "Checking images"), looked, strict=True)
        ):
            found += wrong
            if facts is not None:
                self._facts[index] = facts
            if mask_facts is not None:
                self._mask_facts[index] = mask_facts
        two_valued = {index for index, facts in self._facts.items() if facts.two_values}
        found += ask_for_masks(self._layout, two_valued, self._vocabulary.anomalous)
        return found + ([] if self._said_of_masks else ask_for_inverted(self._layout, self._mask_facts))

    def _look(
        self, file: ImageFile, preparation: Preparation | None
    ) -> tuple[FileFacts | None, MaskFacts | None, list[str]]:
        """Return what is known of an image and its mask, and what is wrong with them."""
        wrong: list[str] = []

        def measure() -> FileFacts:
            raw = decode_raw(file.path)
            if preparation is not None:
                raw.range_of(preparation.values, str(file.path))
            return measure_file(file.path, raw)

        facts = _found_or_noted(measure, wrong)
        mask = _found_or_noted(partial(self._file_mask, file), wrong)
        if mask is None:
            return facts, None, wrong
        if facts is not None and mask.shape != (facts.height, facts.width):
            wrong.append(
                f"{file.masks[0]}: is {mask.shape[0]} x {mask.shape[1]}, its image {facts.height} x {facts.width} "
                "(height x width); make them equal"
            )
        return facts, describe_mask(mask, fit_mask(mask, self.size, self._fit)), wrong

    def remarks(self) -> list[tuple[str, str]]:
        """Say how the files were understood; of masks what `problems` found, if it was asked."""
        return [*describe_layout(self._layout, self._base), describe_masks(self._layout, self._mask_facts)]

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


class FolderSet(FileSet):
    """The files below `root` / `category` (layouts: `read_layout`)."""

    def _read(self, parameters: DatasetParameters, vocabulary: Vocabulary) -> tuple[Path, Layout]:
        base = find_category(Path(parameters.root).expanduser(), parameters.category).absolute()
        return base, read_layout(base, vocabulary)


class CsvSet(FileSet):
    """The files that the CSV file `root` lists (columns: `read_csv_list`), of one category where it lists several."""

    def _read(self, parameters: DatasetParameters, vocabulary: Vocabulary) -> tuple[Path, Layout]:
        file = Path(parameters.root).expanduser().absolute()
        return file.parent, read_list(file, parameters.category, vocabulary)


def _found_or_noted(find: Callable[[], Any], problems: list[str]) -> Any | None:
    """Return what is found, or None after adding to `problems` why it is not."""
    try:
        return find()
    except InputError as error:
        problems.append(str(error))
        return None
