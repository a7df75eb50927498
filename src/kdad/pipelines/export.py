"""The pipeline `export`: a kept detector written as an ONNX file; the detector stays as it is."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kedro.pipeline import Node, Pipeline
from pydantic import ValidationError

from kdad.compute import limit_threads
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import write_exported
from kdad.detectors.exported.facts import ExportedFacts
from kdad.detectors.exported.runtimes import RUNTIMES, require
from kdad.detectors.exported.writing import VerificationImages, drawn, export_detector, of_folder, of_run
from kdad.detectors.folder import read_facts
from kdad.detectors.opening import open_detector
from kdad.detectors.predictor import Predictor
from kdad.errors import PLAIN, InputError
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.layouts.layout import FoundImages
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_set, table_of
from kdad.parameters.blocks import ComputeParameters, ExportParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines import blocks, made, own

logger = logging.getLogger(__name__)


def create_pipeline() -> Pipeline:
    """Build the file, have it predict beside the detector, and keep it only when it agrees; in one step."""
    inputs = {"detector": "export.source", "wanted": "params:export"} | own("export", "images")
    inputs |= blocks("dataset", "compute")
    return Pipeline([Node(export, inputs, made("export", "detector", "report"), name="export_detector")])


@dataclass(frozen=True)
class Export:
    """A model that was built and checked, and what its file says of itself."""

    facts: ExportedFacts
    model: Any = field(repr=False)

    def save(self, folder: Path) -> None:
        """Write it to `folder`, in the place of an older one; raises `InputError` where anything else lies there."""
        write_exported(self.facts, self.model, folder)


def export(
    detector: Predictor,
    images: FoundImages | None,
    wanted: ExportParameters,
    dataset: DatasetParameters,
    compute: ComputeParameters,
) -> tuple[Export, dict[str, Any]]:
    """Build a detector's file, have it predict beside the detector, and report how its answers differ.

    Raises `InputError` before anything is kept: for a system that cannot be exported, a missing package, and answers of
    a float32 file that are not the detector's.
    """
    limit_threads(compute.threads)
    if not isinstance(detector, Detector):
        raise InputError(f"'{wanted.detector}' is an exported file already; give export.detector the detector's folder")
    runtime = RUNTIMES[wanted.runtime]
    for package, extra in (("onnx", "onnx"), ("onnxscript", "onnx"), (runtime.package, runtime.extra)):
        require(package, extra)  # a missing one is told before images are looked at
    place = Path(detector.record["folder"])
    facts = read_facts(place)
    exact, made_in = open_detector(place, "cpu", "float32"), "float32"
    if exact.threshold is None and facts.threshold is not None:  # its rule is to be had, on images
        made_in = facts.precision
        exact.calibrated(facts.threshold, np.array(facts.validation_scores), facts.colour_limits)
    checked = _images_of(exact, images, dataset).at_most(wanted.most_images)
    if facts.precision != "float32" and facts.by_category:
        if facts.by_category.keys() <= {image.category for image in checked.part(validation=True)}:
            exact.by_category, made_in = facts.by_category, facts.precision
        else:
            logger.warning(
                "The detector's thresholds of categories do not hold in float32, and are left out: setting them takes "
                "validation images of each category. Give the dataset: block of its run",
                extra=PLAIN,
            )
    facts, model = export_detector(exact, made_in, checked, wanted.runtime, wanted.precision)
    size = model.ByteSize()
    logger.info(
        "Exported a detector of '%s' for %s in %s, %.1f MB: %s",
        *(facts.system, facts.runtime, facts.precision, size / 1e6, facts.loss.statement()),
        extra=PLAIN,
    )
    if facts.threshold_set_by == "runtime":
        logger.info(
            "Its threshold is %.6g, set through its own runtime, in the place of %.6g: %s",
            *(facts.threshold.value, facts.loss.threshold_before, facts.threshold.statement()),
            extra=PLAIN,
        )
    report = {
        "runtime": facts.runtime,
        "precision": facts.precision,
        "system": facts.system,
        "megabytes": size / 1e6,
        "threshold": None if facts.threshold is None else facts.threshold.value,
        "threshold_set_by": facts.threshold_set_by,
        **facts.loss.model_dump(),
    }
    return Export(facts, model), report


def _images_of(detector: Detector, given: FoundImages | None, dataset: DatasetParameters) -> VerificationImages:
    if given is not None:
        return of_folder(given)
    found = find_run_images(detector, dataset)
    if found is None:
        logger.warning(
            "The images of the detector's run are not at hand with these parameters: drawn ones take their place. Give "
            "the dataset: block of that run, or a folder as export.images"
        )
        region = detector.preparation.region
        return drawn(detector.size, None if region is None else (region.height, region.width))
    return found


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
            found = _as_split(detector, images, wanted, int(record.get("seed", 0)))
        except (InputError, ValidationError, OSError):
            continue
        same = found.split.images_digest == record.get("images")
        # Without the run's groups as many others would be held out, of which some have trained.
        by_groups = detector.threshold is not None and bool(detector.threshold.group_scores)
        same = same and ("group" in found.split.table) == by_groups
        if same and len(found.split.rows("validation")) == record.get("validation_images"):
            return of_run(found.images, found.split)
    return None


def _as_split(detector: Detector, images: ImageSet, dataset: DatasetParameters, seed: int) -> FeatureSet:
    split = Split(table_of(images, split_set(images.samples, dataset, seed), dataset.is_united))
    return detector.prepare_images(detector.settings, FeatureSet(images, split, {}), seed)
