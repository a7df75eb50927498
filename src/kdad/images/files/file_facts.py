"""What a file of an image is like: size, mode, frames, and the values that it uses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdad.errors import first_of
from kdad.images.files.decoding import RawImage, is_wide, open_header
from kdad.images.files.value_range import ValueKind, kind_of, used_limits

_SHOWN = 3


@dataclass(frozen=True)
class FileFacts:
    """A file's size in pixels (upright), mode as Pillow names it, frames, and the values that its pixels lie between.

    All but a thousandth of the pixels lie from `low` to `high`. `deep` says that colours of 16 bits were read as their
    upper 8, and `two_values` that the pixels hold two values at most, as masks do.
    """

    height: int
    width: int
    mode: str
    values: ValueKind
    frames: int
    deep: bool
    low: float
    high: float
    two_values: bool

    @property
    def limits(self) -> tuple[float, float]:
        """The values that the pixels lie between."""
        return self.low, self.high


def measure_file(path: Path, raw: RawImage) -> FileFacts:
    """Return the facts of a file that was decoded to `raw`; raises `InputError` when later frames are torn."""
    with open_header(path) as file:
        # 16 bits a colour are told by the decoder's arguments alone: the mode is RGB.
        deep = not is_wide(file.mode) and any(";16" in str(tile.args) for tile in file.tile)
        frames = getattr(file, "n_frames", 1)
    height, width = raw.pixels.shape[:2]
    limits = used_limits(raw.pixels)
    return FileFacts(height, width, raw.mode, kind_of(raw.pixels), frames, deep, *limits, _holds_two(raw.pixels))


def _holds_two(pixels: np.ndarray) -> bool:
    """Tell whether pixels hold two values at most; of most images a few say that they do not."""
    some = pixels[:: max(pixels.shape[0] // 16, 1), :: max(pixels.shape[1] // 16, 1)]
    return np.unique(some).size <= 2 and np.unique(pixels).size <= 2


def kind_by_header(path: Path) -> ValueKind:
    """Return the kind of a file's values without decoding it; raises `InputError` when it is no image."""
    with open_header(path) as file:
        mode = file.mode
    if mode == "F":
        return "float"
    return "integer" if is_wide(mode) else "8-bit"


def unusual_files(facts: dict[str, FileFacts]) -> list[str]:
    """Say of which files (by name) something is left out: all frames but the first, the lower half of 16-bit colours.

    One line a kind, with its first files.
    """
    several = [f"{name} ({found.frames})" for name, found in facts.items() if found.frames > 1]
    deep = [name for name, found in facts.items() if found.deep]
    said = []
    if several:
        first = first_of(several, _SHOWN)
        said.append(f"{len(several)} files have several pages or frames, of which the first is taken: {first}")
    if deep:
        first = first_of(deep, _SHOWN)
        said.append(f"{len(deep)} files have colours of 16 bits, of which the upper 8 are taken: {first}")
    return said
