"""What an image set is: an ordered list of samples whose images and masks are read one at a time."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdad.images.files.file_facts import FileFacts
from kdad.images.files.fitting import Preparation
from kdad.images.files.reading import read_ahead, reading_threads

Subset = Literal["train", "validation", "test"]
#: Takes a row, its image `(3, H, W)`, and its mask at its own resolution and at the model's size, or None twice.
Keep = Callable[[int, np.ndarray, np.ndarray | None, np.ndarray | None], None]


@dataclass(frozen=True)
class Sample:
    """One image: `label` is 0 (normal) or 1 (anomalous); `kind` is "good", a defect's kind or a class's name.

    Images of one `group` belong together, as frames of a film do; None where nothing is said.
    """

    id: str
    label: int
    kind: str
    subset: Subset
    has_mask: bool
    group: str | None = None


class ImageSet(ABC):
    """An ordered list of samples at one size (height, width); images and masks are made when asked for."""

    name: str
    category: str
    size: tuple[int, int]
    samples: list[Sample]
    #: Where the files are: an absolute path or ``downloaded``; None for an embedded set.
    root: str | None = None
    #: Threads that may read at once: none where images lie in memory, one where neighbours share a file.
    most_readers = 0
    #: Whether making an image takes so long that it is kept; `content` then says what images are made of.
    is_slow = False
    #: A file of all images `(N, 3, H, W)`, float32, where there is one.
    images_file: Path | None = None

    @property
    def preparation(self) -> Preparation:
        """How files become these images; raises `InputError` where that cannot be found out."""
        return Preparation()

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Return the image of a sample, float32 RGB `(3, H, W)` in [0, 1]."""

    def images_of(self, rows: np.ndarray, ahead: int = 16) -> Iterator[np.ndarray]:
        """Yield the images of samples in order, while up to `ahead` of the next are read; raises as `image` does."""
        _ = self.preparation  # found out once, before threads ask for it
        return read_ahead(self.image, map(int, rows), min(self.most_readers, reading_threads()), ahead)

    def own_pixels(self, index: int) -> np.ndarray:
        """Return the image before it is resized, uint8 RGB `(H, W, 3)`, where it is kept so; else the resized one."""
        return np.rint(255 * self.image(index)).astype(np.uint8).transpose(1, 2, 0)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask of a sample, bool `(H, W)`, True where anomalous; None where `has_mask` is False."""
        return None

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask of a sample at its own resolution, bool; None as `mask`."""
        return self.mask(index)

    def ignored(self, index: int) -> np.ndarray | None:
        """Return which pixels of a sample do not count, bool `(H, W)`; None for one of which all, or a region, do."""
        return None

    def own_ignored(self, index: int) -> np.ndarray | None:
        """Return the same at the resolution of the sample's own mask."""
        return self.ignored(index)

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of a sample before it is resized, which are those of its own mask."""
        return self.size

    def problems(self, keep: Keep | None = None) -> list[str]:
        """List what keeps the set from being used, one line a file, each with what to do; empty when all is well.

        `keep` is given what was made of the files on the way: each image with its masks.
        """
        if keep is not None:
            for row, image in enumerate(self.images_of(np.arange(len(self.samples)))):
                keep(row, image, self.own_mask(row), self.mask(row))
        return []

    def content(self) -> str:
        """Return a hash of everything that images and masks are made of, without making one."""
        raise NotImplementedError

    def known(self) -> dict[str, Any]:
        """Return what `problems` found out about the files, as JSON."""
        return {}

    def recall(self, known: dict[str, Any]) -> None:  # noqa: B027  # most sets find out nothing
        """Take what `known` returned, of the same files, so that none has to be looked at."""

    def remarks(self) -> list[tuple[str, str]]:
        """Say what else was understood of the set, a title and a sentence each."""
        return []

    def facts(self, index: int) -> FileFacts | None:
        """Return what is known of the image's file; None for images that do not lie in a file each."""
        return None

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image's content, 16 hexadecimal digits."""
        return hash_content(self.image(index).tobytes())

    def file_digest(self, index: int) -> str | None:
        """Return `hash_content` of the file that the image comes from; None for images that do not lie in files."""
        return None


class ForwardingSet(ImageSet):
    """A set whose images are those of other sets, which answer what a subclass does not."""

    @abstractmethod
    def _at(self, index: int) -> tuple[ImageSet, int]:
        """Return the set that an image is of, and its row there."""

    def image(self, index: int) -> np.ndarray:
        images, row = self._at(index)
        return images.image(row)

    def mask(self, index: int) -> np.ndarray | None:
        images, row = self._at(index)
        return images.mask(row)

    def own_mask(self, index: int) -> np.ndarray | None:
        images, row = self._at(index)
        return images.own_mask(row)

    def ignored(self, index: int) -> np.ndarray | None:
        images, row = self._at(index)
        return images.ignored(row)

    def own_ignored(self, index: int) -> np.ndarray | None:
        images, row = self._at(index)
        return images.own_ignored(row)

    def own_size(self, index: int) -> tuple[int, int]:
        images, row = self._at(index)
        return images.own_size(row)

    def facts(self, index: int) -> FileFacts | None:
        images, row = self._at(index)
        return images.facts(row)

    def file_digest(self, index: int) -> str | None:
        images, row = self._at(index)
        return images.file_digest(row)


class WrappedSet(ForwardingSet):
    """A set made of another one, `_images`, with the same rows unless a subclass says otherwise."""

    _images: ImageSet

    def _at(self, index: int) -> tuple[ImageSet, int]:
        return self._images, index

    @property
    def most_readers(self) -> int:
        return self._images.most_readers

    @property
    def images_file(self) -> Path | None:
        return self._images.images_file

    @property
    def preparation(self) -> Preparation:
        return self._images.preparation

    def problems(self, keep: Keep | None = None) -> list[str]:
        return self._images.problems(keep)

    def known(self) -> dict[str, Any]:
        return self._images.known()

    def recall(self, known: dict[str, Any]) -> None:
        self._images.recall(known)

    def remarks(self) -> list[tuple[str, str]]:
        return self._images.remarks()


def hash_content(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]
