"""Opening a detector that was kept, of whichever system."""

import logging
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from kdad.compute import Compute, bfloat16_is_native, choose_compute, one_thread, respect_quota
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import exported_file, open_exported
from kdad.detectors.folder import FACTS, DetectorFacts, changed_by_hand, check_unchanged, read_facts, read_state
from kdad.detectors.predictor import Predictor
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.features.network import NetworkReference

logger = logging.getLogger(__name__)


def open_predictor(
    place: Path, device: str = "auto", threads: int | None = None, with_networks: bool = True
) -> Predictor:
    """Open what a place holds: an exported file, or a detector's folder; raises `InputError` as either does.

    `threads` are torch's from then on (`respect_quota`); `with_networks` is `open_detector`'s.
    """
    respect_quota(threads)
    with one_thread():
        file = None if (place / FACTS).is_file() else exported_file(place)
        return open_detector(place, device, with_networks=with_networks) if file is None else open_exported(file)


def open_detector(
    folder: Path, device: str = "auto", precision: str | None = None, with_networks: bool = True
) -> Detector:
    """Open the detector in `folder`, in the number format that it was made in where the hardware multiplies it.

    `precision` asks for another. In another format it has a threshold of its own, or none, which is said: scores differ
    by more than what lies between a threshold and the next normal score. `with_networks` reads the frozen networks now,
    so that no change of their files reaches it later; otherwise they are read, and checked, when they are first needed.

    Raises `InputError` when the folder is incomplete, was changed by hand, names files elsewhere, or is of an unknown
    system or format.
    """
    facts = read_facts(folder)
    if facts.system not in SYSTEMS:
        raise InputError(f"'{folder}' is of the system '{facts.system}'; known: {', '.join(sorted(SYSTEMS))}")
    try:
        system, state = SYSTEMS[facts.system].detector, read_state(folder, facts)
    except ModuleNotFoundError as error:  # where nothing but what most systems predict with is installed
        raise InputError(
            f"a detector of '{facts.system}' takes the package {error.name}, which is not installed: "
            'pip install "kdad[run]"'
        ) from error
    try:
        references = {
            name: _inside(system.Reference.model_validate(values).within(folder), folder)
            for name, values in facts.frozen.items()
        }
        detector = system(
            system.Settings.of_kept(facts.settings), references, _compute(device, precision or facts.precision)
        )
        detector.size, detector.key = facts.image.size, facts.key
        detector.preparation = facts.image.preparation
        detector.load_state(state, facts.learnt)
    except InputError as error:
        if str(folder) in str(error):
            raise
        raise InputError(f"the detector '{folder}' cannot be opened: {error}") from error
    except (ValidationError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise changed_by_hand(folder, error) from error
    check_unchanged(folder, facts)
    for network in detector.frozen.values() if with_networks else ():
        try:
            network.load_now()
        except InputError as error:
            raise InputError(
                f"the detector '{folder}' cannot be opened: {error}; or take an undamaged copy of the detector"
            ) from error
    if detector.compute.describe()["dtype"] != facts.precision:
        _take_other_format(detector, facts, folder)
    elif facts.threshold is not None:
        detector.calibrated(facts.threshold, np.array(facts.validation_scores), facts.colour_limits)
        detector.tiled, detector.in_float32 = facts.tiled, facts.in_float32
        detector.by_category, detector.pixel_threshold = facts.by_category, facts.pixel_threshold
    detector.record, detector.digest = facts.made_by, facts.digest
    return detector.eval()


def _take_other_format(detector: Detector, facts: DetectorFacts, folder: Path) -> None:
    """Give a detector that computes in another format than it was calibrated in the threshold of that; or none."""
    known = facts.in_float32
    if known is not None:
        detector.calibrated(known.threshold, np.array(known.validation_scores), facts.colour_limits)
        logger.info(
            "'%s' was made in %s and predicts in float32 here, by a threshold of its own", folder, facts.precision
        )
    if (known is None and facts.threshold is not None) or facts.tiled:
        logger.warning(
            "'%s' has a threshold%s in %s that does not hold in float32, in which it computes here; set one with "
            '`kedro run --pipeline=calibration --params "calibration.detector=%s,calibration.images=FOLDER"`',
            *(folder, "" if known is None else " of tiles", facts.precision, folder),
        )


def _inside(reference: NetworkReference, folder: Path) -> NetworkReference:
    """Return a reference whose weights lie in the detector's own folder; raises `InputError` for any other."""
    if reference.in_a_file and not Path(reference.weights).resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"'{folder / FACTS}' names weights outside of the detector's folder ('{reference.weights}'), which none "
            "that was saved does; take an undamaged copy"
        )
    return reference


def _compute(device: str, precision: str) -> Compute:
    chosen = choose_compute(device, "float32").device
    return choose_compute(device, "bfloat16" if precision == "bfloat16" and bfloat16_is_native(chosen) else "float32")
