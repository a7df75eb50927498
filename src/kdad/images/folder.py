"""Images and masks from files: a folder of them, or a list."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import RawImage, decode_raw, known_size, read_ahead, read_size, reading_threads
from kdad.images.files.file_facts import FileFacts, RawValues, find_range, measure_file
from kdad.images.files.fitting import (
    Alignment,
    Placement,
    Preparation,
    Region,
    fit_mask,
    frame_of,
    read_region,
    region_within,
)
from kdad.images.files.mask_files import MaskFacts, describe_mask, marks_anything, read_mask, read_masks
from kdad.images.files.value_range import ValueRange, used_limits
from kdad.images.image_set import ImageSet, Keep, Sample
from kdad.images.layouts.layout import IGNORED, ImageFile, Vocabulary, find_category
from kdad.images.layouts.reading import (
    ask_about_marks,
    ask_for_inverted,
    ask_for_masks,
    describe_layout,
    describe_masks,
    read_layout,
    read_list,
)
from kdad.images.splits import PARTS, split_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import written
from kdad.progress import counted
from kdad.storage.content_store import content_key

#: Makes of a file's row, whole image and whole mask what `Keep` takes: once for an image, once for each of its tiles.
Cut = Callable[[int, np.ndarray, np.ndarray | None], list[tuple]]


_ALIGNED_BY = 64  # training images at most are what others are turned to


class FolderSet(ImageSet):
    """The files below `root` / `category` (`read_layout`), or those that the CSV file `root` lists (`read_list`).

    Ids are paths from the folder. `seed` is the run's, by which images are held out.
    Raises `InputError` when the layout cannot be understood; what is wrong with single files is in `problems`. What
    reads a file raises `InputError` when it cannot be read.
    """

    most_readers = 64
    is_slow = True

    def __init__(self, parameters: DatasetParameters, seed: int = 0) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        self._names = parameters.layout
        names = self._names
        words = map(tuple, (names.normal, names.anomalous, names.masks, names.ignore))
        self._vocabulary = Vocabulary(*words, names.anomalous_in_masks or "bright")
        said = self._vocabulary, parameters.groups, _region_file(parameters)
        root = Path(parameters.root).expanduser()
        if parameters.name == "csv":
            self._base = root.absolute().parent
            self._layout = read_list(root.absolute(), parameters.category, *said)
        else:
            self._base = find_category(root, parameters.category).absolute()
            self._layout = read_layout(self._base, *said)
        self._files = self._layout.images
        self._fit, self._range_rule = parameters.fit, parameters.value_range
        self._parameters, self._seed = parameters, seed
        self._facts: dict[int, FileFacts] = {}
        self._mask_facts: dict[int, MaskFacts] = {}
        #: Of images that were made: how each was turned.
        self._placements: dict[int, Placement] = {}
        self._bands = None if parameters.bands is None else tuple(parameters.bands)
        self.region = self._read_region(parameters)
        self._raw = RawValues(self._bands)
        self.samples = [
            Sample(
                written(file.path.relative_to(self._base).as_posix()),
                int(not file.is_normal),
                written(file.kind),
                file.subset,
                file.is_marked,
                None if file.group is None else written(file.group),
            )
            for file in self._files
        ]

    def _read_region(self, parameters: DatasetParameters) -> Region | None:
        if parameters.region is None:
            return None
        size = next(filter(None, (known_size(file.path) for file in self._files)), None)
        file = _region_file(parameters)
        return region_within(parameters.region, size) if file is None else read_region(file, size)

    @cached_property
    def preparation(self) -> Preparation:
        """The fit that the parameters say, and the range of values that they say or that training images use.

        Raises `InputError` for images of another size than the region's.
        """
        self._check_region()
        training = [file.path for file, part in zip(self._files, self._parts(), strict=True) if part == "train"]
        ignored = {file.path: file.ignored for file in self._files}
        values = find_range(
            training, self._range_rule, lambda path: self._counted(self._raw.decode(path), ignored[path])
        )
        return Preparation(self._fit, values, self._bands, self.region, self._align(training, values))

    def _align(self, training: list[Path], values: ValueRange | None) -> Alignment | None:
        if self._parameters.align == "none":
            return None
        chosen = training[:: -(-len(training) // _ALIGNED_BY)]
        images = read_ahead(lambda path: self._raw.decode(path).scaled(values, str(path)), chosen, reading_threads())
        return Alignment.of(images)

    def _check_region(self) -> None:
        if self.region is None:
            return
        unlike = [(file.path, size) for file in self._files if (size := known_size(file.path)) and self._differs(size)]
        if unlike:
            path, size = unlike[0]
            raise InputError(
                f"dataset.region: {len(unlike)} of {len(self._files)} images are of another size, the first: {path} "
                f"{self.region.difference(size)}; give a region of the images' size, and images of one size"
            )

    def _differs(self, size: tuple[int, int]) -> bool:
        return self.region.difference(size) is not None

    def _counted(self, raw: RawImage, ignored: Path | None) -> RawImage:
        """Return an image's own values where they count, in a row, or all of them."""
        counts = np.ones(raw.pixels.shape[:2], dtype=bool) if self.region is None else self.region.mask
        mask = None if ignored is None else read_mask(ignored)
        if mask is not None and mask.shape == counts.shape:  # another is named
            counts = counts & ~mask
        return raw if counts.all() else replace(raw, pixels=raw.pixels[counts])

    def _parts(self) -> list[str]:
        try:
            return split_set(self.samples, self._parameters, self._seed)
        except InputError:  # too few images, which the split says
            return [sample.subset for sample in self.samples]

    def image(self, index: int) -> np.ndarray:
        return self._placed(index, self.whole_image(index))

    def _placed(self, index: int, image: np.ndarray) -> np.ndarray:
        known = self._placements.get(index)
        fitted, self._placements[index] = self.preparation.placed(image, self.size, known)
        return fitted

    def whole_image(self, index: int) -> np.ndarray:
        """Return the image `(3, H, W)` at its own size, without its ignored pixels."""
        path, values = self._files[index].path, self.preparation.values  # found out first, as that may decode the file
        return self._filled(index, self._raw.take(path).scaled(values, str(path)))

    def _filled(self, index: int, image: np.ndarray) -> np.ndarray:
        """Return an image `(3, H, W)` whose ignored pixels are the nearest of the others: an edge would be seen."""
        ignored = self.whole_ignored(index)
        if ignored is None:
            return image
        from scipy.ndimage import distance_transform_edt  # late: few sets have ignored pixels

        unknown = ignored if self.region is None else ignored | ~self.region.mask
        rows, columns = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        return np.where(ignored, image[:, rows, columns], image)

    def whole_ignored(self, index: int) -> np.ndarray | None:
        """Return which pixels are ignored of the image at its own size, bool `(H, W)`, or None."""
        return None if (path := self._files[index].ignored) is None else read_mask(path)

    def ignored(self, index: int) -> np.ndarray | None:
        return self._resized(self.whole_ignored(index))

    def own_ignored(self, index: int) -> np.ndarray | None:
        return self._framed(self.whole_ignored(index))

    def whole_mask(self, index: int) -> np.ndarray | None:
        """Return the mask `(H, W)` at its own size, or None; what lies outside of what counts is not anomalous."""
        file = self._files[index]
        mask = read_masks(file.masks, self._vocabulary.marked) if file.masks else None
        if file.drawn is not None:
            drawn = file.drawn.draw(self.whole_size(index) if mask is None else mask.shape)
            mask = drawn if mask is None else drawn | mask
        ignored = None if mask is None else self.whole_ignored(index)
        if ignored is not None and ignored.shape == mask.shape:  # another is named
            mask = mask & ~ignored
        if mask is None or self.region is None or self._differs(mask.shape):  # which is named
            return mask
        return mask & self.region.mask

    def whole_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image's file."""
        facts = self._facts.get(index)
        return read_size(self._files[index].path) if facts is None else (facts.height, facts.width)

    def own_pixels(self, index: int) -> np.ndarray:
        """Return the file's own pixels, where it has 8 bits."""
        pixels = decode_raw(self._files[index].path, self._bands).pixels
        if pixels.dtype != np.uint8:
            return super().own_pixels(index)
        return self._filled(index, pixels.transpose(2, 0, 1)).transpose(1, 2, 0)

    def mask(self, index: int) -> np.ndarray | None:
        return self._resized(self._turned_mask(index))

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask in the frame of `own_size`, or None."""
        return self._framed(self._turned_mask(index))

    def _turned_mask(self, index: int) -> np.ndarray | None:
        mask = self.whole_mask(index)
        if mask is None or self._parameters.align == "none":
            return mask
        if index not in self._placements:
            self.image(index)
        return self._placements[index].turn_mask(mask)

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image's file, fitted without scaling."""
        return frame_of(self.whole_size(index), self.size, self._fit)

    def _resized(self, mask: np.ndarray | None) -> np.ndarray | None:
        return None if mask is None else fit_mask(mask, self.size, self._fit)

    def _framed(self, mask: np.ndarray | None) -> np.ndarray | None:
        return None if mask is None else fit_mask(mask, frame_of(mask.shape, self.size, self._fit), self._fit)

    def problems(self, keep: Keep | None = None, cut: Cut | None = None) -> list[str]:
        """List misplaced, unreadable and mismatched files; decodes every file once, and gives `keep` what it becomes.

        `cut` makes that of a whole image and its mask; without it both are fitted to the model's size.
        """
        problems = list(self._layout.problems)
        preparation = None
        try:
            preparation = self.preparation
        except InputError as error:  # no range for all files; those that cannot be read are named beside it
            problems.append(str(error))
        make = None if keep is None or preparation is None else cut or self.fitted
        look = partial(self._look, preparation=preparation, make=make)
        looked = read_ahead(look, range(len(self._files)), reading_threads())
        for index, (facts, mask_facts, wrong, made) in zip(
            counted(range(len(self._files)), "Checking images"), looked, strict=True
        ):
            problems += wrong
            for item in made:
                keep(*item)
            if facts is not None:
                self._facts[index] = facts
            if mask_facts is not None:
                self._mask_facts[index] = mask_facts
        two_valued = {index for index, facts in self._facts.items() if facts.two_values}
        constant = {index for index, facts in self._facts.items() if facts.is_constant}
        problems += ask_about_marks(self._layout, self._marks, self._base)
        problems += ask_for_masks(self._layout, two_valued, constant, self._vocabulary.anomalous)
        return problems + ([] if self._names.anomalous_in_masks else ask_for_inverted(self._layout, self._mask_facts))

    def _look(
        self, index: int, preparation: Preparation | None, make: Cut | None
    ) -> tuple[FileFacts | None, MaskFacts | None, list[str], list[tuple]]:
        """Return what is known of an image and its mask, what is wrong with them, and what is made of them."""
        file, facts, mask = self._files[index], None, None
        wrong: list[str] = []
        try:
            raw = self._raw.take(file.path)
            self._check_ignored(file, raw.pixels.shape[:2])
            if preparation is not None:
                raw.range_of(preparation.values, str(file.path))
            facts = self._measure(file, raw)
        except InputError as error:
            wrong.append(str(error))
        try:
            mask = None if facts is None and file.drawn is not None else self.whole_mask(index)
        except InputError as error:
            wrong.append(str(error))
        if facts is not None and mask is not None and mask.shape != (facts.height, facts.width):
            wrong.append(
                f"{file.masks[0]}: is {mask.shape[0]} x {mask.shape[1]}, its image {facts.height} x {facts.width} "
                "(height x width); make them equal"
            )
        mask_facts = None if mask is None else describe_mask(mask, self._resized(mask))
        if make is None or wrong:
            return facts, mask_facts, wrong, []
        made = make(index, self._filled(index, raw.scaled(preparation.values, str(file.path))), mask)
        return facts, mask_facts, wrong, made

    def _check_ignored(self, file: ImageFile, own: tuple[int, int]) -> None:
        """Raise `InputError` for a mask of ignored pixels of another size than its image's, or one of all of it."""
        if file.ignored is None:
            return
        if self._parameters.align != "none":
            raise InputError(f"{file.ignored}: does not turn with its image; set dataset.align=none, or remove it")
        ignored = read_mask(file.ignored)
        if ignored.shape != own:
            raise InputError(
                f"{file.ignored}: is {ignored.shape[0]} x {ignored.shape[1]}, its image {own[0]} x {own[1]} (height x "
                "width); make them equal"
            )
        counts = ~ignored if self.region is None or self._differs(own) else ~ignored & self.region.mask
        if not counts.any():
            raise InputError(f"{file.ignored}: ignores the whole image; leave the image out by dataset.layout.ignore")

    def _measure(self, file: ImageFile, raw: RawImage) -> FileFacts:
        facts = measure_file(file.path, raw)
        if self.region is not None and self._differs((facts.height, facts.width)):
            return facts
        counted = self._counted(raw, file.ignored)
        if counted is raw:
            return facts
        low, high = used_limits(counted.pixels)
        return replace(facts, low=low, high=high)

    def _marks(self, mask: Path) -> bool:
        """Tell whether a mask marks anything; what is wrong with one of a normal image does not matter."""
        try:
            return marks_anything(mask, self._vocabulary.marked)
        except InputError:
            return False

    def fitted(self, index: int, image: np.ndarray, mask: np.ndarray | None) -> list[tuple]:
        """Return row, image and masks, fitted, of a whole image and its mask."""
        fitted = self._placed(index, image)
        mask = None if mask is None else self._placements[index].turn_mask(mask)
        return [(index, fitted, self._framed(mask), self._resized(mask))]

    def content(self) -> str:
        """Return a hash of all files, and of what decides how they become images and masks, and which of them train."""
        files = [[*map(hash_file, (file.path, *file.masks)), file.drawn and file.drawn.content] for file in self._files]
        files.append([file.ignored and hash_file(file.ignored) for file in self._files])
        files.append([hash_file(mask) for _, mask in self._layout.masks_of_normal])
        rules = [
            self._fit,
            self._range_rule,
            self._bands,
            self.region and self.region.model_dump(),
            self._parameters.align,
            self._names.anomalous_in_masks,
            self._vocabulary,
            self._layout.problems,
        ]
        return content_key(files=files, rules=rules, parts=self._parts())

    def known(self) -> dict[str, Any]:
        """Return the range of values, and the facts of images and masks."""
        values, alignment = self.preparation.values, self.preparation.alignment
        facts = {
            name: {row: asdict(one) for row, one in of_rows.items()}
            for name, of_rows in (("images", self._facts), ("masks", self._mask_facts))
        }
        made = {"values": values, "alignment": alignment}
        return {name: None if one is None else one.model_dump() for name, one in made.items()} | facts

    def recall(self, known: dict[str, Any]) -> None:
        values = known["values"]
        values = None if values is None else ValueRange(**values)
        alignment = None if known["alignment"] is None else Alignment(**known["alignment"])
        self.preparation = Preparation(self._fit, values, self._bands, self.region, alignment)
        self._facts = {int(row): FileFacts(**one) for row, one in known["images"].items()}
        self._mask_facts = {int(row): MaskFacts(**one) for row, one in known["masks"].items()}

    def remarks(self) -> list[tuple[str, str]]:
        """Say how the files were understood; of masks what `problems` found, if it was asked."""
        said = [*describe_layout(self._layout, self._base), describe_masks(self._layout, self._mask_facts)]
        ignored = Counter(file.subset for file in self._files if file.ignored is not None)
        if ignored:
            parts = ", ".join(f"{count} {PARTS[part]}" for part, count in ignored.items())
            said.append(("ignored", f"pixels of {parts} images, by their masks in '{IGNORED}'; new images have none"))
        if self.region is not None:
            outside = sum(not facts.share for facts in self._mask_facts.values())
            lost = f"; {outside} masks mark nothing in it, so that these images look normal" if outside else ""
            share = f"{self.region.share():.1%} of the {self.region.height} x {self.region.width} pixels count"
            said.append(("region", f"{share}, by {_region_file(self._parameters) or 'dataset.region'}{lost}"))
        if self._parameters.align != "none":
            said.append(("alignment", "each image is turned about its middle, as the mean of training images lies"))
        return said

    def facts(self, index: int) -> FileFacts:
        """Return what is known of the image's file since `problems`, or what it is found to be now."""
        if index not in self._facts:
            file = self._files[index]
            self._facts[index] = self._measure(file, decode_raw(file.path, self._bands))
        return self._facts[index]

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image file's bytes, and of how they become an image where that is not as usual."""
        preparation = self.preparation
        made = "" if preparation == Preparation() else repr(preparation)
        made += "".join(one.packed for one in (preparation.region, preparation.alignment) if one is not None)
        ignored = self._files[index].ignored
        made += "" if ignored is None else hash_file(ignored)
        return hash_file(self._files[index].path, made.encode())

    def file_digest(self, index: int) -> str:
        return hash_file(self._files[index].path)


def _region_file(parameters: DatasetParameters) -> Path | None:
    return Path(parameters.region).expanduser().absolute() if isinstance(parameters.region, str) else None


def hash_file(path: Path, ending: bytes = b"") -> str:
    """Return a hash of a file's bytes and an `ending`; a file that did not change is read once a process."""
    try:
        state = path.stat()
        digest = _hash_unchanged(path, state.st_mtime_ns, state.st_size).copy()
    except OSError as error:  # the look at all files names it
        return str(error)
    digest.update(ending)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1 << 20)
def _hash_unchanged(path: Path, changed: int, size: int) -> Any:
    return hashlib.sha256(path.read_bytes())
