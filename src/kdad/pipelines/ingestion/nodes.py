"""Nodes of the pipeline `ingestion`."""

import logging
from dataclasses import asdict
from typing import Any

import pandas as pd

from kdad.detectors.uninformed_students.parameters import StudentParameters, TeacherParameters
from kdad.detectors.uninformed_students.patches import sample_patches
from kdad.images.image_set import ImageSet, Sample
from kdad.images.natural_pool import NaturalPool
from kdad.images.splits import Split, split_samples
from kdad.images.statistics import measure_channels
from kdad.images.understanding import understand
from kdad.images.validation import check_images
from kdad.parameters.dataset import DatasetParameters
from kdad.reporting.file_names import printable

logger = logging.getLogger(__name__)

_SAMPLE_COLUMNS = ["id", "label", "kind", "subset", "has_mask"]


def validate_images(image_set: ImageSet) -> pd.DataFrame:
    """Check the image set, say what it was understood to be, and list its images in order.

    Columns: id, label, kind, subset, has_mask, fingerprint.
    """
    check_images(image_set)
    understood = understand(image_set)
    lines = [f"{understood.title}:", *(f"  {name}: {text}" for name, text in understood.facts())]
    logger.info("\n".join(map(printable, lines)), extra={"markup": False})
    table = pd.DataFrame([asdict(sample) for sample in image_set.samples], columns=_SAMPLE_COLUMNS)
    return table.assign(fingerprint=[image_set.fingerprint(row) for row in range(len(table))])


def split_images(image_table: pd.DataFrame, dataset: DatasetParameters, seed: int) -> pd.DataFrame:
    """Split the images, in their order, into train, validation and test (column `split`)."""
    samples = [Sample(*row) for row in image_table[_SAMPLE_COLUMNS].itertuples(index=False)]
    table = image_table.assign(split=split_samples(samples, dataset.validation_fraction, seed))
    return table[["id", "label", "kind", "split", "has_mask", "fingerprint"]]


def compute_image_statistics(split_table: pd.DataFrame, image_set: ImageSet) -> dict[str, Any]:
    """Measure each channel's mean and standard deviation over the training images."""
    return measure_channels(image_set, Split(split_table).rows("train"))


def sample_teacher_patches(teacher: TeacherParameters, students: StudentParameters, seed: int) -> pd.DataFrame:
    """Sample every patch of natural images that the teachers will see, in each epoch.

    Returns their places: receptive_field, use, epoch, image, side, top, left, grey, and those of triplets.
    """
    return sample_patches(NaturalPool(teacher.pool), teacher, students.receptive_fields, seed)
