"""What a run took its detector and its images for, in a few lines: for the log and for the page."""

from collections import Counter
from pathlib import PurePosixPath

from kdad.detectors.predictor import Predictor
from kdad.images.files.fitting import Fit
from kdad.images.found import FoundImages
from kdad.images.layouts.layout import NORMAL
from kdad.parameters.written_names import printable

_SHOWN_FOLDERS = 6
_SHOWN_SIZES = 3
_BY_FIT: dict[Fit, str] = {
    "resize": "stretched",
    "letterbox": "filled up with their border",
    "centre_crop": "cut at two sides, where nothing is predicted",
}

Facts = list[tuple[str, str]]


def describe_detector(detector: Predictor) -> Facts:
    """Say which detector it is, where it was found, what it was made on, and what its threshold promises."""
    made = detector.record
    known = {name: made.get(name, "unknown") for name in ("dataset", "category", "seed", "made", "training_images")}
    root = made.get("root")
    facts = [
        ("Detector", f"{detector.system}, in {made.get('folder')} ({made.get('found')})"),
        (
            "Made on",
            f"{known['dataset']} / {known['category']}{f', from {root}' if root else ''}, {known['training_images']} "
            "training images of "
            f"{_size(detector.size)}, seed {known['seed']}, {known['made']}, commit {made.get('commit') or 'unknown'}",
        ),
    ]
    values = detector.preparation.values
    if values is not None and not values.is_types_own:
        facts.append(("Values", f"{values.low:g} of {values.kind} files becomes 0, {values.high:g} becomes 1"))
    if region := detector.preparation.region:
        size = _size((region.height, region.width))
        facts.append(("Region", f"{region.share():.1%} of the pixels of images of {size} count, others change nothing"))
    if detector.preparation.alignment is not None:
        facts.append(("Alignment", "each image is turned as the training images lie; its map is turned back"))
    if "calibrated_on" in made:
        facts.append(("Calibrated on", str(made["calibrated_on"])))
    threshold = detector.threshold
    said = "none yet" if threshold is None else f"{threshold.value:.6g}, by {threshold.rule}: {threshold.statement()}"
    facts.append(("Threshold", said))
    if threshold is not None and threshold.group_value is not None:
        by = f"{threshold.group_value:.6g}, of the {threshold.group_score} of a group's images, with the same promise"
        facts.append(("Groups", f"{by}; inference.groups says which images are of one"))
    if detector.pixel_threshold is not None:
        facts.append(("Pixel threshold", detector.pixel_threshold.statement()))
    if detector.by_category:
        facts.append(("Categories", f"thresholds of {', '.join(detector.by_category)}, by the parameter 'category'"))
    return [(name, printable(text)) for name, text in facts]


def describe_images(images: FoundImages, detector: Predictor, unlabelled: str, sizes: Facts | None = None) -> Facts:
    """Say which images were found, how they come to the detector's size, what labels they have, and what is left out.

    `unlabelled` says what is made of images without a label; `sizes` what becomes of their sizes, if they are not all
    resized.
    """
    resized = [("Sizes", _sizes(images, detector.size, detector.preparation.fit))]
    facts = [("Images", _found(images)), *(resized if sizes is None else sizes)]
    facts += [("Labels", _labels(images, unlabelled)), ("Left out", ", ".join(images.left_out) or "nothing")]
    return [(name, printable(text)) for name, text in facts]


def describe_seen(count: int) -> Facts:
    """Say how many images are no new ones to the detector; nothing where all are."""
    if not count:
        return []
    return [
        ("Seen", f"{count} images that the detector was trained or calibrated on are left out of metrics and drift")
    ]


def as_lines(title: str, facts: Facts) -> str:
    """Return facts as lines for the log."""
    return "\n".join([f"{title}:", *(f"  {name}: {text}" for name, text in facts)])


def _found(images: FoundImages) -> str:
    folders = Counter(PurePosixPath(name).parent.as_posix() for name in images.names)
    said = [f"{count} in {'the folder itself' if name == '.' else name}" for name, count in sorted(folders.items())]
    more = [f"and more in {len(said) - _SHOWN_FOLDERS} other folders"] if len(said) > _SHOWN_FOLDERS else []
    return f"{len(images.paths)} from {images.place.absolute()}: {', '.join(said[:_SHOWN_FOLDERS] + more)}"


def _sizes(images: FoundImages, size: tuple[int, int], fit: Fit) -> str:
    sizes = Counter(images.sizes)
    unreadable = sizes.pop(None, 0)
    said = [f"{count} of {_size(found)}" for found, count in sizes.most_common(_SHOWN_SIZES)]
    if len(sizes) > _SHOWN_SIZES:
        said.append(f"the rest of {len(sizes) - _SHOWN_SIZES} other sizes")
    if unreadable:
        said.append(f"{unreadable} without a size that can be read")
    height, width = size
    resized = sum(count for found, count in sizes.items() if found != size)
    stretched = sum(count for (h, w), count in sizes.items() if abs(h * width - w * height) > 0.01 * h * width)
    smaller = sum(count for (h, w), count in sizes.items() if h < height or w < width)
    notes = [f"; {resized} are resized to {_size(size)}"] if resized else []
    if stretched:
        notes.append(f", {stretched} of them {_BY_FIT[fit]}, as they have another aspect ratio")
    if smaller:
        notes.append(f", {smaller} of them enlarged: they show less than the detector was made to see")
    return ", ".join(said) + " (height x width)" + "".join(notes)


def _labels(images: FoundImages, unlabelled: str) -> str:
    kinds = Counter(images.kinds)
    unknown, normal = kinds.pop(None, 0), kinds.pop(NORMAL, 0)
    if not normal and not kinds:
        return f"none: no image lies in a folder '{NORMAL}', or beside one; {unlabelled}"
    of_kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no others"
    said = f"{normal} normal (in '{NORMAL}'), {kinds.total()} anomalous (in folders beside it: {of_kinds})"
    return said + (f", {unknown} without label: {unlabelled}" if unknown else "")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
