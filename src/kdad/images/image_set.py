"""What an image set is: an ordered list of samples whose images and masks are read one at a time; its statistics.

Sets made of files are decoded once: images, masks and what is known of the files lie in a store (`PreparedSet`).
"""

import hashlib
import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import read_ahead, reading_threads
from kdad.images.files.file_facts import FileFacts
from kdad.images.files.fitting import Preparation
from kdad.progress import counted
from kdad.storage.content_store import ContentStore, content_key
from kdad.storage.disk_space import create_map
from kdad.storage.provenance import code_digest

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

    def _ask(self, what: str, index: int) -> Any:
        images, row = self._at(index)
        return getattr(images, what)(row)

    def image(self, index: int) -> np.ndarray:
        return self._ask("image", index)

    def mask(self, index: int) -> np.ndarray | None:
        return self._ask("mask", index)

    def own_mask(self, index: int) -> np.ndarray | None:
        return self._ask("own_mask", index)

    def ignored(self, index: int) -> np.ndarray | None:
        return self._ask("ignored", index)

    def own_ignored(self, index: int) -> np.ndarray | None:
        return self._ask("own_ignored", index)

    def own_size(self, index: int) -> tuple[int, int]:
        return self._ask("own_size", index)

    def facts(self, index: int) -> FileFacts | None:
        return self._ask("facts", index)

    def file_digest(self, index: int) -> str | None:
        return self._ask("file_digest", index)


class WrappedSet(ForwardingSet):
    """A set made of another one, `_images`, with the same rows unless a subclass says otherwise."""

    _images: ImageSet

    def _at(self, index: int) -> tuple[ImageSet, int]:
        return self._images, index

    @property
    def most_readers(self) -> int:
        return self._images.most_readers

    @property
    def preparation(self) -> Preparation:
        return self._images.preparation

    def problems(self) -> list[str]:
        return self._images.problems()

    def known(self) -> dict[str, Any]:
        return self._images.known()

    def recall(self, known: dict[str, Any]) -> None:
        self._images.recall(known)

    def remarks(self) -> list[tuple[str, str]]:
        return self._images.remarks()


def hash_content(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]


class ChannelStatistics:
    """Streaming mean and standard deviation of each channel, in float64.

    Batches are combined pairwise, which stays accurate where sums of squares cancel (Chan, Golub & LeVeque 1979,
    "Updating formulae and a pairwise algorithm for computing sample variances", eq. 2.1).
    """

    def __init__(self) -> None:
        self.count = 0
        #: Of each channel `(C,)`.
        self.mean = self._squares = np.zeros(())

    def update(self, array: np.ndarray) -> None:
        """Take in the values of `array` `(B, C, H, W)`, as many channels as before."""
        axes = (0, *range(2, array.ndim))
        count = array.size // array.shape[1]
        if not count:
            return
        mean, squares = array.mean(axis=axes, dtype=np.float64), array.var(axis=axes, dtype=np.float64) * count
        total = self.count + count
        difference = mean - self.mean
        self.mean = self.mean + difference * (count / total)
        self._squares = self._squares + squares + difference**2 * (self.count * count / total)
        self.count = total

    @property
    def sd(self) -> np.ndarray:
        """The standard deviation of each channel `(C,)`, dividing by the count."""
        return np.sqrt(self._squares / self.count)


def measure_channels(images: ImageSet, rows: np.ndarray) -> dict[str, Any]:
    """Return ``mean`` and ``sd`` of each channel over these images, and how many they are."""
    statistics = ChannelStatistics()
    for _, image in zip(counted(rows, "Image statistics"), images.images_of(rows), strict=True):
        statistics.update(image[None])
    return {"mean": statistics.mean.tolist(), "sd": statistics.sd.tolist(), "images": len(rows)}


_IMAGES, _MASKS, _KNOWN = "images.npy", "masks.npy", "known.json"
_MOST = 0.5  # of the room on the disk; images that take more are decoded whenever they are asked for


class _UnusableError(InputError):
    """What is wrong with the files, so that nothing is kept."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class _Kept:
    """Images `(N, 3, H, W)`, None where they were too large to keep, and all masks as packed bits.

    `places` says of each image with masks where its own one and that of the model's size begin, with their shapes.
    """

    images: np.ndarray | None
    masks: np.ndarray
    places: dict[str, list[tuple[int, list[int]]]]

    def mask(self, index: int, which: int) -> np.ndarray | None:
        if str(index) not in self.places:
            return None
        start, shape = self.places[str(index)][which]
        pixels = math.prod(shape)
        packed = self.masks[start : start + -(-pixels // 8)]
        return np.unpackbits(packed, count=pixels).reshape(shape).astype(bool)


class PreparedSet(WrappedSet):
    """Another set, whose images and masks are made once, by the first step or run that asks for one of them."""

    def __init__(self, images: ImageSet, store: ContentStore) -> None:
        self._made_of, self._store = images, store
        self.name, self.category, self.size, self.samples = images.name, images.category, images.size, images.samples

    @property
    def _images(self) -> ImageSet:
        """The set that this one is made of, which knows what was found out when it was."""
        _ = self._kept
        return self._made_of

    @cached_property
    def _folder(self) -> Path:
        samples = [asdict(sample) for sample in self.samples]
        code = code_digest(__name__, type(self._made_of).__module__)  # a check that is new looks at all files again
        key = content_key(images=self._made_of.content(), size=self.size, samples=samples, code=code)
        return self._store.obtain(f"images_{key}", self._build)[0]

    @cached_property
    def _kept(self) -> _Kept:
        known = json.loads((self._folder / _KNOWN).read_text(encoding="utf-8"))
        self._made_of.recall(known["files"])
        images = None if self.images_file is None else np.load(self.images_file, mmap_mode="r")
        return _Kept(images, np.load(self._folder / _MASKS, mmap_mode="r"), known["places"])

    def _build(self, folder: Path) -> None:
        shape = (len(self.samples), 3, *self.size)
        fits = 4 * math.prod(shape) < _MOST * shutil.disk_usage(folder).free
        images = create_map(folder / _IMAGES, np.float32, shape) if fits else None
        packed = [np.empty(0, np.uint8)]
        places: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        end = 0

        def keep(index: int, image: np.ndarray, *masks: np.ndarray | None) -> None:
            nonlocal end
            if images is not None:
                images[index] = image
            for mask in masks:
                if mask is not None:
                    places.setdefault(index, []).append((end, mask.shape))
                    packed.append(np.packbits(mask))
                    end += len(packed[-1])

        problems = self._made_of.problems(keep)
        if problems:
            raise _UnusableError(problems)
        if images is not None:
            images.flush()
        np.save(folder / _MASKS, np.concatenate(packed))
        known = {"files": self._made_of.known(), "places": places}
        (folder / _KNOWN).write_text(json.dumps(known), encoding="utf-8")

    @property
    def images_file(self) -> Path | None:
        """The file of all images, where they are kept."""
        path = self._folder / _IMAGES
        return path if path.exists() else None

    @property
    def most_readers(self) -> int:
        """None where images are read from memory maps."""
        return self._images.most_readers if self._kept.images is None else 0

    def image(self, index: int) -> np.ndarray:
        images = self._kept.images
        return self._images.image(index) if images is None else np.array(images[index])

    def mask(self, index: int) -> np.ndarray | None:
        return self._kept.mask(index, 1)

    def own_mask(self, index: int) -> np.ndarray | None:
        return self._kept.mask(index, 0)

    def own_pixels(self, index: int) -> np.ndarray:
        """Return the file's own pixels, decoded now: few are asked for."""
        return self._made_of.own_pixels(index)

    def problems(self) -> list[str]:
        """List what is wrong with the files; what is in the store has nothing wrong."""
        try:
            _ = self._kept
        except _UnusableError as error:
            return error.problems
        return []

    def fingerprint(self, index: int) -> str:
        is_of_image = type(self._images).fingerprint is ImageSet.fingerprint
        return super().fingerprint(index) if is_of_image else self._images.fingerprint(index)
