"""What a layout is: images with their kinds, parts and masks, and what is wrong or was left out."""

from dataclasses import dataclass, field
from pathlib import Path

from kdad.images.image_set import Subset
from kdad.images.layouts.files import Unused
from kdad.images.layouts.names import NORMAL


@dataclass(frozen=True)
class ImageFile:
    """An image of a kind ("good" is normal) and part; `called` is the folder or word that said so, if any."""

    path: Path
    kind: str
    subset: Subset
    called: str | None = None
    masks: tuple[Path, ...] = ()

    @property
    def is_normal(self) -> bool:
        """Whether it is of the normal kind."""
        return self.kind == NORMAL


@dataclass
class Layout:
    """The images of a set in order; `name` says how they lie, `notes` what was decided, `problems` what is wrong."""

    name: str
    images: list[ImageFile]
    problems: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
