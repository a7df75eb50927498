"""Tiles as a run is asked for them: which threshold they have, and what is said of them."""

import json
import shlex
from collections import Counter

import numpy as np

from kdad.detectors.detector import Detector
from kdad.detectors.predictor import Predictor, TiledThreshold, find_tiled
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError
from kdad.images.found import FoundImages
from kdad.images.tiling import TileGrid, Tiling
from kdad.parameters.dataset import TileParameters
from kdad.parameters.written_names import printable
from kdad.scoring.threshold import Threshold

_SHOWN_SIZES = 3
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
