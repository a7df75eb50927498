"""Nodes of the pipeline `ingestion`."""

import logging
from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from kdad.detectors.uninformed_students.parameters import StudentParameters, TeacherParameters
from kdad.detectors.uninformed_students.teacher import sample_patches
from kdad.errors import PLAIN, first_of
from kdad.features.cache import FeatureCache
from kdad.features.survey import draw_thumbnails, find_suspicious, measure_outlyingness
from kdad.images import checks
from kdad.images.files.file_facts import FileFacts, say_range, unusual_files
from kdad.images.files.value_range import describe_range, summed_limits
from kdad.images.image_set import ImageSet, Sample
from kdad.images.natural_pool import NaturalPool
from kdad.images.splits import Split, split_columns, split_set
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.written_names import printable
from kdad.reporting.data_report import render_data_report

logger = logging.getLogger(__name__)

_SAMPLE_COLUMNS = ["id", "label", "kind", "subset", "has_mask", "group"]
_NAMED = 5
_FEW_HELD_OUT = 5
_FACTS = [field.name for field in fields(FileFacts)]


def validate_images(image_set: ImageSet) -> pd.DataFrame:
    """Check the image set, say what it was understood to be and how values are scaled, and list its images in order.

    Columns: id, label, kind, subset, has_mask, fingerprint, group where there are some, and what is known of the files
    (`FileFacts`).
    """
    checks.check_images(image_set)
    understood = checks.summarise_set(image_set)
    lines = [f"{understood.title}:", *(f"  {name}: {text}" for name, text in understood.facts())]
    logger.info("\n".join(map(printable, lines)), extra=PLAIN)
    table = pd.DataFrame([asdict(sample) for sample in image_set.samples], columns=_SAMPLE_COLUMNS)
    table = table if table["group"].notna().any() else table.drop(columns="group")
    rows = range(len(table))
    facts = [image_set.facts(row) for row in rows]
    _say_files(image_set, facts)
    known = [dict.fromkeys(_FACTS) if found is None else asdict(found) for found in facts]
    table = table.assign(fingerprint=[image_set.fingerprint(row) for row in rows])
    table = pd.concat([table, pd.DataFrame(known, columns=_FACTS)], axis=1)
    checks.check_told_by_files(table)
    return table


def _say_files(image_set: ImageSet, facts: list[FileFacts | None]) -> None:
    """Log the range of values, and what of files is left out."""
    known = [(sample, found) for sample, found in zip(image_set.samples, facts, strict=True) if found is not None]
    if not known:
        return
    say_range(image_set.preparation.values, [found.limits for sample, found in known if sample.subset == "train"])
    for said in unusual_files({sample.id: found for sample, found in known}):
        logger.warning("Files: %s", said, extra=PLAIN)


def split_images(image_table: pd.DataFrame, dataset: DatasetParameters, seed: int) -> pd.DataFrame:
    """Split the images, in their order, into train, validation and test (column `split`).

    A united set has its categories in the column ``member``.

    Images that are there twice are said; raises `InputError` for them where ``dataset.duplicates`` refuses them.
    """
    columns = [name for name in _SAMPLE_COLUMNS if name in image_table]
    samples = [Sample(*row) for row in image_table[columns].itertuples(index=False)]
    table = split_columns(image_table.assign(split=split_set(samples, dataset, seed)), dataset.is_united)
    checks.check_exact(table, dataset.duplicates)
    if dataset.groups is None and dataset.name in ("folder", "csv") and not dataset.is_united:
        checks.check_film_names(table)
    checks.check_groups(table)
    _say_split(table)
    return table


def _say_split(table: pd.DataFrame) -> None:
    """Log how many images train and set the threshold, and what so few can promise, before anything is trained."""
    parts = [table[table["split"] == part] for part in ("train", "validation")]
    training, validation = map(len, parts)
    what, groups = "image", ""
    if "group" in table:
        what, of_groups, held_out = "group", *(part["group"].nunique() for part in parts)
        groups = f" ({of_groups} and {held_out} groups)"
    logger.info(
        "Split: %d normal images train, %d validation ones set the threshold%s",
        *(training, validation, groups),
        extra=PLAIN,
    )
    validation = held_out if groups else validation
    if validation < _FEW_HELD_OUT:
        logger.warning(
            "%d normal validation %s%s can promise a false positive rate of %.0f %% at best; add normal images, or "
            "raise dataset.validation_fraction",
            *(validation, what, "" if validation == 1 else "s", 100 / (validation + 1)),
            extra=PLAIN,
        )


def report_images(
    image_set: ImageSet,
    image_table: pd.DataFrame,
    split_table: pd.DataFrame,
    feature_caches: dict[str, FeatureCache],
    dataset: DatasetParameters,
) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Look at every image; return the data report's page, a table of a row an image, and pairs that are there twice.

    Normal images unlike the others, by what the run's frozen networks gave for them, are said: anomalous images among
    the training ones are the commonest accident.
    """
    split = Split(split_table)
    outlyingness = measure_outlyingness(split, feature_caches.values())
    images = split_table.join(image_table[_FACTS])
    images = images.assign(mask_pixels=_count_mask_pixels(image_set, split), outlyingness=outlyingness)
    thumbnails = draw_thumbnails(image_set)
    pairs = pd.concat([checks.exact_pairs(split_table), checks.near_pairs(split_table, thumbnails)], ignore_index=True)
    films = checks.say_films(split_table, thumbnails)
    for said in films:
        logger.warning("Films: %s", said, extra=PLAIN)
    suspicious = find_suspicious(outlyingness)
    if len(suspicious):
        logger.warning(
            "%d normal images are unlike the others and may be anomalous: %s",
            len(suspicious),
            first_of(images["id"].iloc[suspicious].tolist(), _NAMED),
            extra=PLAIN,
        )
    for said in checks.say_pairs(pairs[pairs["how"] == "near"]):
        logger.info("Duplicates: %s", said, extra=PLAIN)
    title = f"Data: {image_set.name} / {printable(image_set.category)}"
    facts = _report_facts(image_set, images.assign(subset=image_table["subset"]), dataset) + [
        ("Advice", said) for said in films
    ]
    page = render_data_report(title, facts, images, pairs, suspicious, image_set.size, image_set.image, image_set.mask)
    return page, images, pairs


def _count_mask_pixels(images: ImageSet, split: Split) -> np.ndarray:
    """Return how many pixels of each image are anomalous at the model's size, -1 where no mask is known."""
    masks = {row: images.mask(int(row)) for row in np.flatnonzero(split.table["has_mask"])}
    return np.array([-1 if masks.get(row) is None else masks[row].sum() for row in range(len(split))])


def _report_facts(image_set: ImageSet, images: pd.DataFrame, dataset: DatasetParameters) -> list[tuple[str, str]]:
    """Return what the page says at its head."""
    height, width = image_set.size
    facts = [("Images", f"{len(images):,}"), ("Model's size", f"{height} x {width} (dataset.fit: {dataset.fit})")]
    facts += [(name.capitalize(), printable(text)) for name, text in image_set.remarks()]
    training = images[(images["subset"] == "train") & images["low"].notna()]
    values = image_set.preparation.values
    if values is None:
        facts.append(("Pixel values", "each file by its type's limits"))
    elif len(training):
        limits = summed_limits(training[["low", "high"]].itertuples(index=False, name=None))
        said, advice = describe_range(values, limits)
        facts.append(("Pixel values", said))
        if advice is not None:
            facts.append(("Advice", advice))
    if len(images) > checks.MOST_COMPARED:
        facts.append(("Near duplicates", f"not looked for among more than {checks.MOST_COMPARED:,} images"))
    return facts


def sample_teacher_patches(teacher: TeacherParameters, students: StudentParameters) -> pd.DataFrame:
    """Sample every patch of natural images that the teachers will see, in each epoch.

    Returns their places: receptive_field, use, epoch, image, side, top, left, grey, and those of triplets.
    """
    return sample_patches(NaturalPool(teacher.pool), teacher, students.receptive_fields)
