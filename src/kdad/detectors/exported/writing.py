"""A detector as an ONNX model: built, run beside the detector, and given back only when it agrees."""

from pathlib import Path
from typing import Any

import numpy as np

from kdad import __version__
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import FILE
from kdad.detectors.exported.facts import FORMAT, ExportAgreement, ExportedFacts
from kdad.detectors.exported.onnx_file import build_model
from kdad.detectors.exported.parameters import ExportPrecision, RuntimeName
from kdad.detectors.exported.pixels import Pixels
from kdad.detectors.exported.runtimes import RUNTIMES
from kdad.detectors.exported.verification import (
    MAP_TOLERANCE,
    TOLERANCE,
    Answers,
    VerificationImages,
    compare,
    prepared,
)
from kdad.detectors.folder import ImageFacts
from kdad.errors import InputError
from kdad.scoring.parameters import LABELLED_RULES
from kdad.scoring.threshold import Calibration, Threshold, threshold_by_rule
from kdad.storage.provenance import code_version


def export_detector(
    detector: Detector, made_in: str, images: VerificationImages, runtime: RuntimeName, precision: ExportPrecision
) -> tuple[ExportedFacts, Any]:
    """Return what a file of a detector, which computes in float32, says of itself, and its ONNX model.

    `made_in` is the number format that its threshold was set in. Unless that and the file's are float32, the file gets
    thresholds of its own: by the same rules, on its scores of normal validation images, each category's on its own.
    Without such images it has none. Raises `InputError` for a system that cannot be exported, for answers of a float32
    file that are not the detector's, and without the images that another precision or a category takes.
    """
    validation = images.part(validation=True)
    if precision != "float32" and not validation:
        raise InputError(
            f"a file in {precision} takes normal validation images, and there are {images.are}; give export.images a "
            "folder of normal images that the detector has not learnt"
        )
    if detector.preparation.alignment is not None:
        raise InputError("a detector that turns images (dataset.align) is not exported; use its folder")
    if detector.preparation.in_tiles:
        raise InputError("a detector that has learnt tiles of a region is not exported; use its folder")
    if precision == "int8" and detector.preparation.region is not None:
        raise InputError("a detector of a region is not exported in int8; give export.precision float32 or bfloat16")
    own_threshold = (
        detector.threshold is not None and (precision, made_in) != ("float32", "float32") and bool(validation)
    )
    missing = detector.by_category.keys() - {image.category for image in validation}
    if own_threshold and missing:
        raise InputError(
            f"the detector has a threshold of the category '{min(missing)}', which a file in {precision} takes anew on "
            f"its validation images, and there are none among those {images.are}; leave export.images out and give the "
            "dataset: block of its run, raise export.most_images, or export in float32"
        )
    normal = np.stack([prepared(detector, image) for image in validation]) if precision == "int8" else None
    model = build_model(Pixels(detector.size, detector.preparation), detector.graph(), normal)
    answers = compare(detector, RUNTIMES[runtime](model, Path(FILE), precision), images.images)
    _check(answers, precision, images.are)
    threshold, by_category = None, {}
    if own_threshold:
        threshold = _threshold_of(answers, detector.threshold)
        by_category = {name: _of_category(answers, name, kept.threshold) for name, kept in detector.by_category.items()}
    elif made_in == precision == "float32":
        threshold, by_category = detector.threshold, detector.by_category
    normal_scores = answers.after[answers.validation] if own_threshold else detector.validation_scores
    facts = ExportedFacts(
        format=FORMAT,
        runtime=runtime,
        precision=precision,
        system=detector.system,
        package=__version__,
        commit=code_version(Path.cwd()),
        settings=detector.settings.model_dump(mode="json"),
        image=ImageFacts.describe(detector.size, detector.preparation),
        map=detector.methods[0] if detector.methods else None,
        key=detector.key,
        threshold=threshold,
        threshold_set_by="runtime" if own_threshold else "detector",
        validation_scores=np.sort(normal_scores).tolist(),
        pixel_threshold=detector.pixel_threshold if made_in == precision == "float32" else None,
        by_category=by_category,
        categories=detector.categories,
        colour_limits=detector.colour_limits,
        made_by={name: value for name, value in detector.record.items() if name not in ("folder", "found")},
        loss=_loss(answers, images.are, detector.threshold, threshold),
    )
    return facts, model


def _check(answers: Answers, precision: str, are: str) -> None:
    """Raise `InputError` for answers that are not the detector's, or of any precision not finite."""
    if not np.isfinite(answers.after).all():
        raise InputError(f"in {precision} scores are not finite, on images {are}; export in float32")
    wrong = [
        f"{name} differ by {found:.2g} of their range, more than {most:g}"
        for name, found, most in (
            ("scores", answers.score_difference, TOLERANCE),
            ("maps", answers.map_difference, MAP_TOLERANCE),
        )
        if found is not None and not found <= most
    ]
    if precision == "float32" and wrong:
        raise InputError(
            f"the exported file does not answer as its detector, so nothing is written: {' and '.join(wrong)}, on "
            f"{len(answers.before)} images ({are}); try another export.runtime"
        )


def _of_category(answers: Answers, category: str, before: Threshold) -> Calibration:
    own = answers.validation & (answers.categories == category)
    return Calibration.of(_threshold_of(answers, before, own), answers.own[own])


def _threshold_of(answers: Answers, before: Threshold, own: np.ndarray | None = None) -> Threshold:
    """Return the threshold that the rule of the one before sets on all scores of the file, or on a category's `own`.

    Raises `InputError` for a rule of labelled images without such, and as the rules do.
    """
    used, scores = own, answers.own
    if used is None:
        scores = answers.after
        used = ~np.isnan(answers.labels) if before.rule in LABELLED_RULES else answers.validation
    groups = answers.groups[used]
    return threshold_by_rule(
        *(before.rule, before.wanted, answers.labels[used].astype(int), scores[used]),
        groups=groups.astype(str) if all(groups) else None,
        group_score=before.group_score if all(groups) else None,
    )


def _loss(answers: Answers, are: str, before: Threshold | None, after: Threshold | None) -> ExportAgreement:
    changed = 0.0
    if before is not None and after is not None:
        changed = float(((answers.before > before.value) != (answers.after > after.value))[answers.tested].mean())
    auroc_before, auroc = answers.image_aurocs()
    return ExportAgreement(
        images=len(answers.before),
        images_are=are,
        score_difference=answers.score_difference,
        map_difference=answers.map_difference,
        decisions_changed=changed,
        threshold_before=float("nan") if before is None else before.value,
        image_auroc=auroc,
        image_auroc_before=auroc_before,
        pixel_auroc=answers.pixel_auroc,
        pixel_auroc_before=answers.pixel_auroc_before,
    )
