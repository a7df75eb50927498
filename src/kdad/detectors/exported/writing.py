"""A detector written as a file of another runtime: built, run beside the detector, and kept only when it agrees."""

from pathlib import Path

import numpy as np

from kdad import __version__
from kdad.detectors.detector import Detector
from kdad.detectors.exported.checked_images import VerificationImages
from kdad.detectors.exported.comparing import MAP_TOLERANCE, TOLERANCE, Answers, compare, prepared
from kdad.detectors.exported.facts import FORMAT, ExportAgreement, ExportedFacts
from kdad.detectors.exported.folder import STEM
from kdad.detectors.exported.opening import open_exported
from kdad.detectors.exported.parameters import ExportPrecision, FileFormat
from kdad.detectors.exported.pixels import Pixels
from kdad.detectors.exported.runtime import ENDINGS, ExportedModule, kind_of
from kdad.detectors.folder import ImageFacts
from kdad.errors import InputError
from kdad.scoring.parameters import LABELLED_RULES
from kdad.scoring.threshold import Threshold, threshold_by_rule
from kdad.storage.provenance import code_version


def export_detector(
    detector: Detector,
    made_in: str,
    images: VerificationImages,
    format: FileFormat,
    precision: ExportPrecision,
    folder: Path,
) -> ExportedFacts:
    """Write a detector, which computes in float32, to a file in `folder`, and return what the file says of itself.

    `made_in` is the number format that its threshold was set in. Unless both that and the file's are float32, the file
    gets a threshold of its own by the same rule, on normal validation images through its runtime; without any it has
    none. Raises `InputError` for a system that cannot be exported, for answers of a float32 file that are not
    the detector's, and without the images that another precision takes; what was begun lies in `folder`, which is the
    caller's to remove.
    """
    kind, ending = kind_of(format, writes=True), ENDINGS[format]
    whole = ExportedModule(Pixels(detector.size, detector.preparation), detector.graph())
    validation = images.part(validation=True)
    if precision != "float32" and not validation:
        raise InputError(
            f"a file in {precision} takes normal validation images, and there are {images.are}; give export.images a "
            "folder of normal images that the detector has not learnt"
        )
    own_threshold = (
        detector.threshold is not None and (precision, made_in) != ("float32", "float32") and bool(validation)
    )
    normal = np.stack([prepared(detector, image) for image in validation]) if precision == "int8" else None
    without_metadata = folder / f"unstamped{ending}"
    kind.build(whole, detector.size, without_metadata, precision, normal)
    answers = compare(detector, kind.open(without_metadata, precision), images.images)
    _check(answers, precision, images.are)
    inherited = detector.threshold if made_in == precision == "float32" else None
    threshold = _threshold_of(answers, detector.threshold) if own_threshold else inherited
    normal_scores = answers.after[answers.validation] if own_threshold else detector.validation_scores
    facts = ExportedFacts(
        format=FORMAT,
        file_format=format,
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
        colour_limits=detector.colour_limits,
        made_by={name: value for name, value in detector.record.items() if name not in ("folder", "found")},
        loss=_loss(answers, images.are, detector.threshold, threshold),
    )
    written = folder / f"{STEM}{ending}"
    kind.write_metadata(without_metadata, facts.texts(), written)
    for path in folder.glob("unstamped*"):
        path.unlink()
    _check_written(written, images, answers)
    return facts


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
            f"{len(answers.before)} images ({are}); try another export.format"
        )


def _threshold_of(answers: Answers, before: Threshold) -> Threshold:
    """Return the threshold that the rule of the one before sets on the file's own scores.

    Raises `InputError` for a rule of labelled images without such, and as the rules do.
    """
    used = ~np.isnan(answers.labels) if before.rule in LABELLED_RULES else answers.validation
    return threshold_by_rule(before.rule, before.wanted, answers.labels[used].astype(int), answers.after[used])


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


def _check_written(path: Path, images: VerificationImages, answers: Answers) -> None:
    """Raise `InputError` unless the finished file, opened as any user opens it, says what was compared."""
    score, _ = open_exported(path).score_pixels(images.images[0].pixels()[None])
    if not np.isclose(score[0], answers.after[0], rtol=1e-5, atol=TOLERANCE * float(np.ptp(answers.after))):
        raise InputError(
            f"'{path.name}' says {score[0]:g} of an image where it said {answers.after[0]:g}; export again"
        )
