"""Images and masks from a folder of files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.decoding import decode_image, decode_mask, resize_image, resize_mask
from kdad.images.folder_layout import find_category, read_layout
from kdad.images.image_set import ImageSet, Sample, hash_content
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

    def image(self, index: int) -> np.ndarray:
        """Return the image, resized; raises `InputError` when the file cannot be read."""
        return resize_image(decode_image(self._files[index].path), self.size)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask, resized, or None; raises `InputError` when the file cannot be read."""
        path = self._files[index].mask
        return None if path is None else resize_mask(decode_mask(path), self.size)

    def problems(self) -> list[str]:
        """List misplaced, unreadable and mismatched files; decodes every file once."""
        found = list(self._layout.problems)
        for file in counted(self._files, "Checking images"):
            image = _decode_or_note(decode_image, file.path, found)
            mask = _decode_or_note(decode_mask, file.mask, found) if file.mask is not None else None
            if image is None or mask is None:
                continue
            if mask.shape != image.shape[1:]:
                found.append(
                    f"{file.mask}: is {mask.shape[0]} x {mask.shape[1]}, its image {image.shape[1]} x {image.shape[2]} "
                    "(height x width); make them equal"
                )
        return found

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image file's bytes."""
        return hash_content(self._files[index].path.read_bytes())


def _decode_or_note(decode: Callable[[Path], np.ndarray], path: Path, problems: list[str]) -> np.ndarray | None:
    """Decode a file, or add to `problems` why that fails."""
    try:
        return decode(path)
    except InputError as error:
        problems.append(str(error))
        return None
