"""A score for every normal image by a detector that has not seen it: where few are held out, each part is in turn.

Cross-conformal prediction (Vovk 2015; for detectors Hennhoefer and Preisach 2024). One detector is kept and not one a
fold, so that what its threshold promises is an estimate: without the comparison with every fold's detector there is no
guarantee for all distributions (Barber et al. 2021, section 2), only for a fit that hardly changes with its images.
"""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from kdad.content_store import ContentStore
from kdad.detectors.deciding import score_images
from kdad.detectors.detector import Detector
from kdad.detectors.mapping import map_images
from kdad.detectors.workshop import Workshop
from kdad.errors import InputError
from kdad.features.network import FrozenReference
from kdad.features.seen import SeenImages
from kdad.images.splits import Split, group_tiles
from kdad.parameters.scoring import MeasuringParameters
from kdad.parameters.strict import StrictModel
from kdad.scoring.decisions import FOLD_COLUMNS
from kdad.scoring.smoothing import smooth
from kdad.scoring.threshold import images_needed
from kdad.seeding import derive_seed

logger = logging.getLogger(__name__)

#: Of `auto`: fewer held-out images than this are too few, and so many parts are made; each costs a fit.
_FEW, _PARTS = 10, 5


def parts_wanted(split: Split, measuring: MeasuringParameters) -> int:
    """Return into how many parts the normal images are divided, the held-out ones being one; 0 for no cross-fitting.

    `auto` divides where fewer than 10 images are held out and they are too few for the threshold's quantile. Raises
    `InputError` for more parts than there are training images to fill them.
    """
    held_out, training = len(split.rows("validation")), len(_wholes(split))
    if measuring.cross_fit == "off":
        return 0
    if measuring.cross_fit == "auto":
        too_few = held_out < min(_FEW, images_needed(measuring.threshold_quantile))
        return min(_PARTS, training + 1) if too_few and training > 1 else 0
    if measuring.cross_fit - 1 > training:
        raise InputError(
            f"measuring.cross_fit is {measuring.cross_fit}, but {training} training images fill at most {training} "
            f"parts beside the held-out ones; lower it to {training + 1} at most"
        )
    return measuring.cross_fit


def fold_splits(split: Split, parts: int, seed: int) -> list[Split]:
    """Divide the training images into `parts` - 1 folds and return, for each, the split that holds that fold out.

    Held-out images train in it, test images are in no part of it. Folds follow ids and seed, and differ by one image
    at most; tiles of one image stay together.
    """
    wholes = _wholes(split)
    names = sorted(wholes, key=lambda name: (derive_seed(seed, "folds", name), name))
    found = []
    for chosen in np.array_split(np.array(names, dtype=object), parts - 1):
        fold = [row for name in chosen for row in wholes[name]]
        part = split.table["split"].replace({"validation": "train", "test": "left_out"}).to_numpy(dtype=object)
        part[fold] = "validation"
        found.append(Split(split.table.assign(split=part)))
    return found


def _wholes(split: Split) -> dict[str, np.ndarray]:
    """Return the rows of each training image, several where it was cut into tiles."""
    rows = split.rows("train")
    return {name: rows[places] for name, places in group_tiles([split.name(row) for row in rows]).items()}


def judge_by_folds(
    detector: type[Detector],
    settings: StrictModel,
    seen: SeenImages,
    references: dict[str, FrozenReference],
    workshop: Workshop,
    cases: ContentStore,
    parts: int,
) -> pd.DataFrame:
    """Score each training image by a detector that was fitted without its fold: columns id, fold (from 1), score.

    The frozen networks' outputs, and their scale over the training images, are those of the whole set: a constant a
    channel, of as many values as an image has locations. No row for `parts` 0.
    """
    found = []
    for number, split in enumerate(fold_splits(seen.split, parts, workshop.split_seed) if parts else [], start=1):
        logger.info("Cross-fitting: part %d of %d judges %d images", number, parts - 1, len(split.rows("validation")))
        fold = replace(seen, split=split, features=_of_fold(seen, split))
        made = detector(settings, references, workshop.compute)
        made.fit(fold, workshop)
        raw = map_images(made, fold, [], cases)
        smoothed = {name: smooth(np.asarray(stack), made.smoothing(name)) for name, stack in raw.stacks.items()}
        scores = score_images(made, raw.scores, smoothed)
        ids = split.table["id"].iloc[raw.scores["row"]]
        found.append(pd.DataFrame({"id": ids, "fold": number, "score": scores.astype(np.float64)}))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=FOLD_COLUMNS)


def _of_fold(seen: SeenImages, split: Split) -> dict:
    """Return the caches under the name of what trains in this fold: learnt halves are found by it."""
    training = {"training_images": split.training_digest}
    return {name: replace(cache, manifest=cache.manifest | training) for name, cache in seen.features.items()}
