"""Images and masks from files: a folder of them, or a list."""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.decoding import decode_image, read_size, resize_image, resize_mask
from kdad.images.image_set import ImageSet, Sample, hash_content
from kdad.images.layouts.categories import find_category
from kdad.images.layouts.layout import Layout
from kdad.images.layouts.names import Vocabulary
from kdad.images.layouts.reading import read_layout, read_list
from kdad.images.layouts.remarks import ask_for_inverted, describe_layout, describe_masks
from kdad.images.mask_files import MaskFacts, describe_mask, read_masks
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import written
from kdad.progress import counted


class FileSet(ImageSet):
    """The files of a layout; ids are paths from its base.

    Raises `InputError` when the layout cannot be understood; what is wrong with single files is in `problems`.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        said = parameters.layout
        self._base, self._layout = self._read(
            parameters, Vocabulary(tuple(said.normal), tuple(said.anomalous), tuple(said.masks))
        )
        self._said_of_masks, self._anomalous = said.anomalous_in_masks, said.anomalous_in_masks or "bright"
        self._mask_facts: dict[int, MaskFacts] = {}
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

    def image(self, index: int) -> np.ndarray:
        """Return the image, resized; raises `InputError` when the file cannot be read."""
        return resize_image(decode_image(self._files[index].path), self.size)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask, resized, or None; raises `InputError` when the file cannot be read."""
        own = self.own_mask(index)
        return None if own is None else resize_mask(own, self.size)

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask at its file's size, or None; raises `InputError` when the file cannot be read."""
        paths = self._files[index].masks
        return read_masks(paths, self._anomalous) if paths else None

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image's file; raises `InputError` when it cannot be read."""
        return read_size(self._files[index].path)

    def problems(self) -> list[str]:
        """List misplaced, unreadable and mismatched files; decodes every file once."""
        found = list(self._layout.problems)
        for index, file in enumerate(counted(self._files, "Checking images")):
            image = _decode_or_note(lambda path=file.path: decode_image(path), found)
            mask = _decode_or_note(lambda index=index: self.own_mask(index), found)
            if mask is not None:
                self._mask_facts[index] = describe_mask(mask, resize_mask(mask, self.size))
            if image is None or mask is None:
                continue
            if mask.shape != image.shape[1:]:
                found.append(
                    f"{file.masks[0]}: is {mask.shape[0]} x {mask.shape[1]}, its image {image.shape[1]} x "
                    f"{image.shape[2]} (height x width); make them equal"
                )
        return found + ([] if self._said_of_masks else ask_for_inverted(self._layout, self._mask_facts))

    def remarks(self) -> list[tuple[str, str]]:
        """Say how the files were understood; of masks what `problems` found, if it was asked."""
        return [*describe_layout(self._layout, self._base), describe_masks(self._layout, self._mask_facts)]

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image file's bytes."""
        return hash_content(self._files[index].path.read_bytes())


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


def _decode_or_note(decode: Callable[[], np.ndarray | None], problems: list[str]) -> np.ndarray | None:
    """Decode something, or add to `problems` why that fails."""
    try:
        return decode()
    except InputError as error:
        problems.append(str(error))
        return None
