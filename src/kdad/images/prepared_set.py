"""An image set whose files are decoded once: images, masks and what is known of the files lie in a store."""

import json
import math
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.image_set import ImageSet, WrappedSet
from kdad.storage.content_store import ContentStore, content_key
from kdad.storage.disk_space import create_map
from kdad.storage.provenance import code_digest

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

    def problems(self, keep: object = None) -> list[str]:
        """List what is wrong with the files; what is in the store has nothing wrong."""
        try:
            _ = self._kept
        except _UnusableError as error:
            return error.problems
        return []

    def fingerprint(self, index: int) -> str:
        is_of_image = type(self._images).fingerprint is ImageSet.fingerprint
        return super().fingerprint(index) if is_of_image else self._images.fingerprint(index)
