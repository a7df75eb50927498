"""Images that a run reads: the set of the ``dataset:`` block, files to predict, a folder in which files arrive."""

from pathlib import Path
from typing import Any

from kdad.datasets.place import ReadOnlyDataset
from kdad.errors import InputError
from kdad.images.image_set import ImageSet
from kdad.images.layouts.layout import FoundImages, look_for_images
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import unescape_placeholders
from kdad.storage.content_store import ContentStore


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
