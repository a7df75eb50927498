"""The raw images: opened as the ``dataset:`` block says, read one at a time when asked for."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview
from PIL import Image

from kdad.images.image_set import ImageSet
from kdad.images.registry import open_image_set
from kdad.parameters.braces import unescape_placeholders
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore

_PREVIEWED = 8
_SIDE = 96


class ImageSetDataset(AbstractDataset[None, ImageSet]):
    """An image set, of a `dataset` block whose braces are hidden."""

    def __init__(
        self,
        *,
        dataset: dict[str, Any],
        seed: int = 0,
        store: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._block, self._seed = unescape_placeholders(dataset), seed
        self._store = None if store is None else ContentStore(Path(store))
        self.metadata = metadata

    def load(self) -> ImageSet:
        """Open the set; raises `InputError` when there is none."""
        return open_image_set(DatasetParameters.model_validate(self._block), self._seed, self._store)

    def save(self, data: None) -> None:
        """Refuse: raw images are read alone."""
        raise DatasetError("raw images are read, never written")

    def preview(self) -> ImagePreview:
        """Return the first images of the set side by side, for Kedro-Viz."""
        images = self.load()
        strip = [_small(images.image(row)) for row in range(min(_PREVIEWED, len(images.samples)))]
        buffer = io.BytesIO()
        Image.fromarray(np.concatenate(strip, axis=1)).save(buffer, format="PNG")
        return ImagePreview(base64.b64encode(buffer.getvalue()).decode())

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._block}


def _small(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return np.asarray(picture.resize((_SIDE, _SIDE)))
