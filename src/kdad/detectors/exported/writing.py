"""A detector as an ONNX model: built, run beside the detector, and given back only when it agrees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdad import __version__
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import FILE
from kdad.detectors.exported.facts import FORMAT, ExportAgreement, ExportedFacts
from kdad.detectors.exported.onnx_file import Pixels, build_model
from kdad.detectors.exported.runtimes import RUNTIMES, Runtime
from kdad.detectors.folder import ImageFacts
from kdad.errors import InputError
from kdad.images.files.decoding import decode_raw, read_image
from kdad.images.image_set import ImageSet
from kdad.images.layouts.layout import FoundImages
from kdad.images.splits import Split
from kdad.metrics.pixel_ranking import pixel_auroc, rank_pixels
from kdad.metrics.ranking import image_auroc
from kdad.parameters.blocks import ExportPrecision, RuntimeName
from kdad.scoring.parameters import LABELLED_RULES
from kdad.scoring.threshold import Calibration, Threshold, threshold_by_rule
from kdad.storage.provenance import code_version

#: How far scores may be apart that should be the same, as a share of their range; of maps, whose single pixels may be
#: quotients by small spreads, ten times as far.
TOLERANCE, MAP_TOLERANCE = 1e-4, 1e-3
#: Drawn images, where nothing else is reachable.
_DRAWN, _DRAWN_SEED = 16, 0


@dataclass(frozen=True)
class CheckedImage:
    """An image by its pixels, uint8 RGB `(H, W, 3)`; `label` None where nothing is known of it.

    `validation` ones are normal, and no detector has learnt them. A mask is bool, at the detector's size. `category` is
    the one of a united set.
    """

    pixels: Callable[[], np.ndarray]
    label: int | None
    validation: bool
    mask: Callable[[], np.ndarray | None] = lambda: None
    group: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class VerificationImages:
    """Images in order, and in words which they are."""

    images: list[CheckedImage]
    are: str

    def part(self, validation: bool) -> list[CheckedImage]:
        """Return the validation images, or the others."""
        return [image for image in self.images if image.validation == validation]

    def at_most(self, count: int) -> "VerificationImages":
        """Return so many of either part, evenly spaced; of groups all validation images, as the highest counts."""
        kept = []
        for validation in (True, False):
            part = self.part(validation)
            if validation and any(image.group for image in part):
                kept += part
                continue
            rows = np.linspace(0, len(part) - 1, min(len(part), count)).astype(int)
            kept += [part[row] for row in rows]
        return replace(self, images=kept)


def of_run(images: ImageSet, split: Split) -> VerificationImages:
    """Return normal validation and test images of a run."""
    validation = set(split.rows("validation").tolist())
    members = split.table["member"].tolist() if "member" in split.table else [None] * len(split.table)
    found = [
        CheckedImage(
            lambda row=row: images.own_pixels(row),
            images.samples[row].label,
            row in validation,
            lambda row=row: images.mask(row) if row not in validation else None,
            images.samples[row].group,
            members[row],
        )
        for row in split.scored.tolist()
    ]
    return VerificationImages(found, f"normal validation and test images of the detector's run, {images.name}")


def of_folder(found: FoundImages) -> VerificationImages:
    """Return files of a folder: those without a label are taken for normal, and normal ones for validation ones.

    Raises `InputError` for files of more than 8 bits, and for those that cannot be read, when they are asked for.
    """
    images = [
        CheckedImage(lambda path=path: _pixels_of(path), label or 0, not label)
        for path, label in zip(found.paths, found.labels, strict=True)
    ]
    return VerificationImages(images, f"of {found.place.absolute()}")


def drawn(size: tuple[int, int], own: tuple[int, int] | None = None) -> VerificationImages:
    """Return drawn images of several sizes, or of their `own`: blurred noise with a spot; nothing is known of them."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(_DRAWN_SEED)
    images = []
    for number in range(_DRAWN):
        height, width = own or (max(round(side * (0.5 + number / 8)), 8) for side in size)
        noise = gaussian_filter(generator.normal(size=(height, width, 3)), (1 + number % 4, 1 + number % 4, 0))
        top, left = (int(generator.integers(0, max(side // 2, 1))) for side in (height, width))
        noise[top : top + height // 4, left : left + width // 4] += noise.std() * (number % 3)
        scaled = 128 + 40 * (noise - noise.mean()) / noise.std()
        pixels = np.clip(scaled, 0, 255).astype(np.uint8)
        images.append(CheckedImage(lambda pixels=pixels: pixels, None, False))
    return VerificationImages(images, "drawn ones, as those of the detector's run are not at hand")


def _pixels_of(path) -> np.ndarray:
    pixels = decode_raw(path).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"'{path}' has more than 8 bits, and exported files take 8; give export.images other images")
    return pixels


@dataclass(frozen=True)
class Answers:
    """Scores `(N,)` of images by the detector and by the file, and the largest difference of their maps as a share.

    Pixel AUROCs are None where no image has a mask.
    """

    before: np.ndarray
    after: np.ndarray
    own: np.ndarray  # the file's, by the moments of each image's category where it has some
    labels: np.ndarray  # float, NaN for unknown
    validation: np.ndarray
    groups: np.ndarray  # None where there are none
    categories: np.ndarray  # None where there are none
    map_difference: float | None
    pixel_auroc_before: float | None
    pixel_auroc: float | None

    @property
    def score_difference(self) -> float:
        """The largest difference of two scores, as a share of the detector's range; NaN where one is not finite."""
        return _share(np.abs(self.after - self.before).max(), self.before)

    @property
    def tested(self) -> np.ndarray:
        """Which images are counted: test images, or all where those are not of both kinds.

        A threshold is a validation score itself, so that rounding alone decides on which side of it that image falls.
        """
        kinds = set(self.labels[~self.validation])
        return ~self.validation if {0.0, 1.0} <= kinds else np.ones_like(self.validation)

    def image_aurocs(self) -> tuple[float, float] | tuple[None, None]:
        """Return the detector's and the file's image AUROC; None without both labels."""
        known = ~np.isnan(self.labels) & self.tested
        labels = self.labels[known]
        if not {0.0, 1.0} <= set(labels):
            return None, None
        before, after = (image_auroc(labels.astype(int), scores[known]) for scores in (self.before, self.after))
        return before, after


def prepared(detector: Detector, image: CheckedImage) -> np.ndarray:
    """Return an image as the detector takes it, `(3, h, w)`."""
    return detector.placed(read_image(image.pixels(), detector.preparation.values))[0]


def compare(detector: Detector, runtime: Runtime, images: list[CheckedImage]) -> Answers:
    """Have both predict the images one by one."""
    columns = {name: column for column, name in enumerate(detector.categories)}
    rows, ranges, shown = [], [], []
    for image in images:
        (before,), maps = detector.score_and_show(torch.from_numpy(prepared(detector, image))[None])
        (after,), *own_maps = runtime.run_pixels(np.ascontiguousarray(image.pixels()[None]))
        label = np.nan if image.label is None else float(image.label)
        own = own_maps[-1][0, columns[image.category]] if image.category in columns else after
        rows.append((float(before), float(after), float(own), label, image.validation, image.group, image.category))
        if maps is None:
            continue
        ranges.append((np.abs(own_maps[0][0] - maps[0]).max(), maps.min(), maps.max()))
        mask = image.mask()
        if mask is None and image.label == 0 and not image.validation:
            mask = np.zeros(maps.shape[1:], dtype=bool)
        if mask is not None:
            shown.append((mask, maps[0], own_maps[0][0]))
    aurocs = [None, None]
    if any(mask.any() for mask, _, _ in shown):
        masks, *both = (np.stack(stack) for stack in zip(*shown, strict=True))
        aurocs = [pixel_auroc(rank_pixels(masks, stack, detector.region)) for stack in both]
    differences, lowest, highest = np.array(ranges, dtype=np.float64).reshape(-1, 3).T
    map_difference = _share(differences.max(), np.array([lowest.min(), highest.max()])) if ranges else None
    return Answers(*map(np.array, zip(*rows, strict=True)), map_difference, *aurocs)


def _share(difference: float, values: np.ndarray) -> float:
    """Return a difference as a share of the range of values, or of their size where all are the same."""
    spread = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    return float(difference / spread)


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
