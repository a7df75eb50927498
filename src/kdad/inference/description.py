"""What a run took its detector, images and tiles for, for the log and the page; and which threshold tiles have."""

import json
import shlex
from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from kdad.detectors.detector import Detector
from kdad.detectors.predictor import Predictor, TiledThreshold, find_tiled
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError
from kdad.images.files.fitting import Fit
from kdad.images.layouts.layout import NORMAL, FoundImages
from kdad.images.tiling import TileGrid, Tiling
from kdad.parameters.dataset import TileParameters
from kdad.parameters.written_names import printable
from kdad.scoring.threshold import Threshold

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


_ALIKE = 1.5  # times as many pixels as calibration images: more tiles have more to be highest


def predict_by_tiles(detector: Predictor, tiles: TileParameters, batch_size: int) -> TiledPredictor:
    """Return what predicts by these tiles.

    Raises `InputError` that says how a threshold is set for them where the detector has none, and for what has no raw
    maps to blend: a file that a detector was exported to.
    """
    check_has_raw_maps(detector)
    tiling = Tiling.of(tiles, detector.size)
    found = find_tiled(detector.tiled, tiling)
    if found is None:
        known = "; ".join(str(known.tiling) for known in detector.tiled)
        raise InputError(
            f"the detector has no threshold for tiles of {tiling}"
            f"{f' (it has some for tiles of {known})' if known else ''}, and that of whole images is too low for them; "
            "set one on normal images that have trained nothing and are as large as those that are scored, then score "
            f"by the detector that this leaves:\n  {calibration_command(detector, tiling)}"
        )
    return TiledPredictor(detector, found, batch_size)


def check_has_raw_maps(detector: Predictor) -> None:
    """Raise `InputError` for a file that a detector was exported to: its maps are smoothed before they are blended.

    So it does for a detector of images that are turned.
    """
    if not isinstance(detector, Detector):
        raise InputError(
            "tiles take a detector's own folder, since an exported file has no maps before smoothing; give that "
            "folder, or leave tiles out (null)"
        )
    if detector.preparation.alignment is not None:
        raise InputError("the detector turns whole images, and tiles are parts of them; leave tiles out")


def calibration_command(detector: Predictor, tiling: Tiling) -> str:
    """Return the command that sets a threshold for tiles; its user fills in the folder of normal images."""
    folder = json.dumps(str(detector.record.get("folder", "latest")), ensure_ascii=False)  # which is YAML as well
    tiles = f"calibration.tiles.size={max(tiling.size)},calibration.tiles.overlap={tiling.overlap}"
    given = f"calibration.detector={folder},{tiles},calibration.images=FOLDER_OF_NORMAL_IMAGES"
    return f"kedro run --pipelines=calibration --params={shlex.quote(given)}"


def check_larger_than_tiles(images: FoundImages, tiling: Tiling) -> None:
    """Raise `InputError` for calibration images that one tile holds: they are predicted whole, by another threshold."""
    small = [
        name
        for name, size in zip(images.names, images.sizes, strict=True)
        if size is not None and tiling.hold_whole(size)
    ]
    if small:
        raise InputError(
            f"{len(small)} calibration images are no larger than a tile ({tiling.size[0]} x {tiling.size[1]}), so that "
            f"they are scored whole, the first is '{small[0]}'; give images as large as those that are scored, or "
            "smaller tiles"
        )


def describe_tiles(found: TiledThreshold) -> list[tuple[str, str]]:
    """Say which tiles there are, and what their threshold promises."""
    threshold = found.threshold
    facts = [
        ("Tiles", f"{found.tiling} or more; an image that one tile holds is predicted whole, by the threshold above"),
        ("Tiles' threshold", f"{threshold.value:.6g}, by {threshold.rule}: {threshold.statement()}"),
        ("Tiles calibrated on", found.calibrated_on),
    ]
    if threshold.group_value is not None:
        facts.append(("Tiles' groups", f"{threshold.group_value:.6g}, of the {threshold.group_score} of their images"))
    return facts


def describe_sizes(images: FoundImages, tiling: Tiling, found: TiledThreshold | None = None) -> list[tuple[str, str]]:
    """Say how many tiles images have, and which are much larger or smaller than those `found` was set on."""
    sizes = Counter(size for size in images.sizes if size is not None)
    cut = Counter({size: count for size, count in sizes.items() if not tiling.hold_whole(size)})
    said = [
        f"{count} of {h} x {w} in {len(TileGrid((h, w), tiling))} tiles"
        for (h, w), count in cut.most_common(_SHOWN_SIZES)
    ]
    if len(cut) > _SHOWN_SIZES:
        said.append(f"the rest of {len(cut) - _SHOWN_SIZES} other sizes")
    whole = sizes.total() - cut.total()
    said += [f"{whole} predicted whole"] if whole else []
    facts = [("Sizes", ", ".join(said) or "none can be read")]
    low, high = (0, float("inf")) if found is None else found.pixels
    unlike = sum(count for (h, w), count in cut.items() if not low / _ALIKE <= h * w <= high * _ALIKE)
    if unlike:
        warning = (
            f"{unlike} images have more than {_ALIKE:g} times more or fewer pixels than those that the tiles' "
            f"threshold was set on ({low / 1e6:.3g} to {high / 1e6:.3g} million), so that its promise is not theirs; "
            "calibrate on images of their size"
        )
        facts.append(("Unlike", warning))
    return facts


def new_tiled(tiling: Tiling, threshold: Threshold, scores: np.ndarray, images: FoundImages) -> TiledThreshold:
    """Return a threshold for tiles that was set on the `scores` of normal images."""
    pixels = [height * width for height, width in filter(None, images.sizes)] or [1]
    return TiledThreshold(
        size=tiling.size,
        overlap=tiling.overlap,
        threshold=threshold,
        validation_scores=np.sort(scores.astype(np.float64)).tolist(),
        pixels=(min(pixels), max(pixels)),
        calibrated_on=printable(str(images.place.absolute())),
    )
