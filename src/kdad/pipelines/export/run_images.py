"""The images of the run that made a detector, where they are still to be had."""

from pydantic import ValidationError

from kdad.detectors.detector import Detector
from kdad.detectors.exported.checked_images import VerificationImages, of_run
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_samples, table_of
from kdad.parameters.dataset import DatasetParameters


def find_run_images(detector: Detector, dataset: DatasetParameters) -> VerificationImages | None:
    """Return validation and test images of the run that made a detector; None where they are gone, or others.

    They are those that the ``dataset:`` block names, or that the detector remembers, which it does not by every option;
    ids, content and the number that is held out have to be those of the run.
    """
    record = detector.record
    remembered = {"name": record.get("dataset"), "category": record.get("category"), "root": record.get("root")}
    for names in ({}, remembered):
        try:
            wanted = DatasetParameters.model_validate(
                dataset.model_dump() | names | {"image_size": list(detector.size), "duplicates": "warn"}
            )
            images = open_image_set(wanted, int(record.get("seed", 0)))
            if images.name != record.get("dataset") or images.category != record.get("category"):
                continue
            found = _as_split(detector, images, wanted.validation_fraction, int(record.get("seed", 0)))
        except (InputError, ValidationError, OSError):
            continue
        same = found.split.images_digest == record.get("images")
        if same and len(found.split.rows("validation")) == record.get("validation_images"):
            return of_run(found.images, found.split)
    return None


def _as_split(detector: Detector, images: ImageSet, fraction: float | str, seed: int) -> FeatureSet:
    split = Split(table_of(images, split_samples(images.samples, fraction, seed)))
    return detector.prepare_images(detector.settings, FeatureSet(images, split, {}), seed)
