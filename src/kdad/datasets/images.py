"""Images that a run reads: the set of the ``dataset:`` block, files to predict, a folder in which files arrive."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from kedro_datasets._typing import ImagePreview
from PIL import Image

from kdad.datasets.place import ReadOnlyDataset
from kdad.errors import InputError
from kdad.images.image_set import ImageSet
from kdad.images.layouts.layout import FoundImages, look_for_images
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import unescape_placeholders
from kdad.reporting.overlays import encode_picture
from kdad.storage.content_store import ContentStore

_PREVIEWED = 8
_SIDE = 96


class ImageSetDataset(ReadOnlyDataset):
    """An image set, of a `dataset` block whose braces are hidden; read one at a time when asked for."""

    def __init__(
        self,
        *,
        dataset: dict[str, Any],
        seed: int = 0,
        store: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dataset=unescape_placeholders(dataset), metadata=metadata)
        self._seed, self._store = seed, None if store is None else ContentStore(Path(store))

    def load(self) -> ImageSet:
        """Open the set; raises `InputError` when there is none."""
        return open_image_set(DatasetParameters.model_validate(self._told["dataset"]), self._seed, self._store)

    def preview(self) -> ImagePreview:
        """Return the first images of the set side by side, for Kedro-Viz."""
        images = self.load()
        strip = [_small(images.image(row)) for row in range(min(_PREVIEWED, len(images.samples)))]
        content = encode_picture(Image.fromarray(np.concatenate(strip, axis=1)))
        return ImagePreview(base64.b64encode(content).decode())


def _small(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return np.asarray(picture.resize((_SIDE, _SIDE)))


class ImageFilesDataset(ReadOnlyDataset):
    """Image files at or below a place; masks below ``ground_truth`` are left out. `setting` is what names the place."""

    def __init__(
        self, *, place: str | None, setting: str, required: bool = True, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(place=place, metadata=metadata)
        self._place, self._setting, self._required = place, setting, required

    def load(self) -> FoundImages | None:
        """List the files, None where no place is given and none is required; raises `InputError` without any."""
        if self._place:
            return look_for_images(Path(self._place).expanduser())
        if self._required:
            raise InputError(f"{self._setting} is not given; name the folder, or the file, that is to be predicted")
        return None


class WatchedFolderDataset(ImageFilesDataset):
    """A folder in which image files arrive; it may be empty still."""

    def load(self) -> Path:
        """Return the folder; raises `InputError` when none is given, or none is there."""
        if not self._place:
            raise InputError(f"{self._setting} is not given; name the folder that is to be watched")
        folder = Path(self._place).expanduser().absolute()
        if not folder.is_dir():
            raise InputError(
                f"{self._setting} is '{folder}', which is no folder; make it, or name the one to be watched"
            )
        return folder
