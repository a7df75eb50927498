"""The words of folders and lists: what is normal, what is anomalous, what is a part, what holds masks."""

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from kdad.images.image_set import Subset

#: The kind of normal images, whatever their folder is called.
NORMAL = "good"
NORMAL_NAMES = (
    *("good", "normal", "ok", "okay", "pass", "passed", "negative", "healthy", "intact", "flawless", "undamaged"),
    *("no_defect", "defect_free", "non_defective", "nondefective", "not_defective", "without_defect"),
)
ANOMALOUS_NAMES = (
    *("bad", "ng", "ko", "nok", "not_ok", "not_good", "no_good", "fail", "failed", "positive", "faulty", "damaged"),
    *("defect", "defects", "defective", "anomaly", "anomalies", "anomalous", "abnormal"),
)
MASK_NAMES = ("ground_truth", "groundtruth", "gt", "mask", "masks")
#: In a folder's name beside other words, or alone, these may say that it holds masks: a question.
_MASK_WORDS = {*MASK_NAMES, "label", "labels", "annotation", "annotations", "segmentation", "segmentations"}
PART_NAMES: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
#: Folders that say nothing of what lies in them.
WRAPPERS = ("data", "image", "images", "img", "imgs", "rgb")
#: Three-dimensional measurements beside ``rgb``, as in MVTec 3D-AD.
NO_PICTURES = ("xyz",)

Meaning = Literal["normal", "anomalous", "unknown", "doubtful", "masks?"]
_ALIKE = 0.8


def plain(name: str) -> str:
    """Return a name in lower case, with one underscore for blanks and dashes."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


@dataclass(frozen=True)
class Vocabulary:
    """What names mean: the usual words, and before them what the parameters say of single names."""

    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def meaning(self, name: str) -> Meaning:
        """Say what images of this name are: "doubtful" is nearly a normal name (``good_2``), or a class's number.

        "masks?" has a word of masks in it (``bad_mask``, ``labels``).
        """
        word = plain(name)
        if word in map(plain, self.normal):
            return "normal"
        if word in map(plain, self.anomalous):
            return "anomalous"
        if word in NORMAL_NAMES:
            return "normal"
        if word in ANOMALOUS_NAMES:
            return "anomalous"
        parts = set(re.split(r"[\W\d_]+", word))
        if parts & _MASK_WORDS:
            return "masks?"
        alike = len(word) > 3 and difflib.get_close_matches(word, NORMAL_NAMES, n=1, cutoff=_ALIKE)
        return "doubtful" if parts & set(NORMAL_NAMES) or alike or word in ("0", "1") else "unknown"

    def holds_masks(self, name: str) -> bool:
        """Tell whether a folder of this name holds masks."""
        word = plain(name)
        if word in map(plain, self.normal + self.anomalous):
            return False
        return word in MASK_NAMES or word in map(plain, self.masks)


def part_of(name: str) -> Subset | None:
    """Return which part a folder, or a word in a list, names."""
    return PART_NAMES.get(plain(name))


def sounds_anomalous(name: str) -> bool:
    """Tell whether a name has an anomalous word in it."""
    return bool(set(re.split(r"[\W\d_]+", plain(name))) & set(ANOMALOUS_NAMES))
