"""Uninformed Students as a detector: its maps worked out from descriptors, its constants from training images."""

import numpy as np
import pytest
import torch

from kdad.detectors.detector import TrainContext
from kdad.detectors.uninformed_students.detector import UninformedStudentsDetector
from kdad.detectors.uninformed_students.parameters import UninformedStudentsSettings
from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from memory_images import MemoryImages, split_of

SIZE, SOME = (35, 41), np.array([5, 0, 17])
ALL_MAPS = ("combined", "regression_error", "predictive_variance", "combined_p17", "combined_p33", "combined_p65")


def settings(fields=(17,), maps=ALL_MAPS, pool=None, scoring=None, **students) -> UninformedStudentsSettings:
    training = {"epochs": 1, "batch_size": 4}
    small = {"patches_per_epoch": 8, "validation_patches": 4, "depth": 4, "width": 0.05, "knowledge_weight": 0}
    return UninformedStudentsSettings(
        teacher={**small, "pool": pool, "training": training},
        students={"receptive_fields": fields, "count": 2, "training": training, **students},
        student_scoring={"localisation": maps, "smoothing": {name: {} for name in maps}, **(scoring or {})},
    )


@pytest.fixture
def images():
    return MemoryImages(SIZE)


def e_and_v(fitted, field: int, rows) -> tuple[np.ndarray, np.ndarray]:
    """Work out eq. 8 and 9 on the grid of descriptors, with NumPy."""
    detector, pixels = fitted.detector, torch.from_numpy(fitted.feature_set.images.pixels)
    teacher = detector.references[f"p{field}"].open().descriptor
    with torch.no_grad():
        described, known = (teacher.dense(pixels[chosen], 4).numpy() for chosen in (rows, TRAIN))
        students = [member.dense(pixels[rows], 4).numpy() for member in detector.ensembles[f"p{field}"].members]
    mean, sd = (getattr(known.astype(np.float64), name)(axis=(0, 2, 3))[:, None, None] for name in ("mean", "std"))
    targets, predictions = (described - mean) / sd, np.stack(students).astype(np.float64)
    error = np.square(predictions.mean(axis=0) - targets).sum(axis=1)
    variance = np.square(predictions).sum(axis=2).mean(axis=0) - np.square(predictions.mean(axis=0)).sum(axis=1)
    return error, variance


TRAIN = [1, 2, 4, 7, 10, 11, 13, 16]


def normalised(fitted, field: int) -> dict[str, np.ndarray]:
    """Return e and v of `SOME`, less their mean and over their sd on training images."""
    found, usual = (dict(zip("ev", e_and_v(fitted, field, rows), strict=True)) for rows in (SOME, TRAIN))
    return {part: (found[part] - usual[part].mean()) / usual[part].std() for part in "ev"}


def test_maps_are_means_over_scales_of_normalised_parts(fit):
    fitted = fit(UninformedStudentsDetector, settings((17, 33), ALL_MAPS[:-1]))
    small, large = normalised(fitted, 17), normalised(fitted, 33)
    expected = {
        "combined": (small["e"] + small["v"] + large["e"] + large["v"]) / 2,
        "regression_error": (small["e"] + large["e"]) / 2,
        "predictive_variance": (small["v"] + large["v"]) / 2,
        "combined_p17": small["e"] + small["v"],
        "combined_p33": large["e"] + large["v"],
    }
    found = fitted.detector.maps(fitted.feature_set.batch(SOME), None, list(expected))
    assert found.scores == {}
    for name, values in expected.items():
        assert found.maps[name].shape == (3, *SIZE)
        np.testing.assert_allclose(found.maps[name][:, ::4, ::4], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_e_and_v_are_standardised_at_each_position(fit):
    fitted = fit(UninformedStudentsDetector, settings(scoring={"normalisation": "per_pixel"}))
    training, some = (dict(zip("ev", e_and_v(fitted, 17, rows), strict=True)) for rows in (TRAIN, SOME))
    found = fitted.detector.maps(fitted.feature_set.batch(SOME), None, ["regression_error", "predictive_variance"]).maps
    for part, name in (("e", "regression_error"), ("v", "predictive_variance")):
        mean, spread = training[part].mean(0), training[part].std(0) + 0.2 * training[part].std()
        np.testing.assert_allclose(found[name][:, ::4, ::4], (some[part] - mean) / spread, rtol=2e-3, atol=2e-3)
    assert fitted.detector.metadata() == {"map_constants": {}}


def test_constants_are_of_training_images_alone(fit):
    fitted = fit(UninformedStudentsDetector, settings((17,), ("combined",)))
    error, variance = e_and_v(fitted, 17, TRAIN)
    constants = fitted.detector.constants
    assert set(constants) == {"e_p17", "v_p17"}
    for name, values in (("e_p17", error), ("v_p17", variance)):
        assert constants[name].mean == pytest.approx(values.mean(), rel=1e-3)
        assert constants[name].sd == pytest.approx(values.std(), rel=1e-3)
    changed = MemoryImages(SIZE)
    for row, sample in enumerate(changed.samples):
        if sample.subset != "train":
            changed.pixels[row] = 0.5
    assert (
        fit(UninformedStudentsDetector, settings((17,), ("combined",)), images=changed).detector.constants == constants
    )


def test_one_field_alone_has_no_map_of_its_own_beside_the_others(fit):
    detector = fit(UninformedStudentsDetector, settings((17,))).detector
    assert detector.methods == ["combined", "regression_error", "predictive_variance"]


def test_maps_of_fields_that_are_not_there_are_left_out(prepare):
    detector, _ = prepare(UninformedStudentsDetector, settings((33, 17)))
    assert detector.methods == [*ALL_MAPS[:4], "combined_p33"]


def test_the_first_map_scores_as_the_parameters_say(prepare):
    scoring = {"score": "map_maximum", "top_fraction": 0.5}
    detector, _ = prepare(
        UninformedStudentsDetector, settings((17,), ("regression_error", "combined"), scoring=scoring)
    )
    assert detector.needed_methods == ["regression_error"]
    assert detector.image_score.of_images({}, {"regression_error": torch.arange(6.0).view(1, 2, 3)}).tolist() == [5.0]


def test_students_are_trained_once_whether_descriptors_are_kept_or_not(fit):
    first = fit(UninformedStudentsDetector, settings((17,), ("combined",), descriptors="cache"))
    again = fit(UninformedStudentsDetector, settings((17, 33), ("combined",), descriptors="recompute"))
    alone = fit(UninformedStudentsDetector, settings((17,), ("regression_error",), descriptors="recompute"))
    assert (first.fitting.reused, again.fitting.reused, alone.fitting.reused) == (False, False, True)
    assert alone.detector.key == first.detector.key != again.detector.key
    for name, tensor in first.detector.ensembles["p17"].state_dict().items():
        assert torch.equal(again.detector.ensembles["p17"].state_dict()[name], tensor)
    assert set(again.fitting.history["term"].str.partition(".")[0]) == {"p17", "p33"}


def test_other_students_or_another_seed_are_trained_anew(fit, train_context):
    keys = [
        fit(UninformedStudentsDetector, settings((17,), **changed)).detector.key
        for changed in ({}, {"count": 1}, {"output_stride": 2})
    ]
    other = TrainContext(train_context.compute, 1, train_context.models)
    keys.append(fit(UninformedStudentsDetector, settings((17,)), train_context=other).detector.key)
    assert len(set(keys)) == 4


def test_descriptors_are_kept_as_the_parameters_say():
    keep = [
        UninformedStudentsDetector.extraction_options(settings(**given), SIZE).keep
        for given in (
            {"descriptors": "cache"},
            {"descriptors": "recompute"},
            {},
        )
    ]
    assert keep == [True, False, None]


def test_small_images_and_empty_splits_are_refused(prepare):
    with pytest.raises(InputError, match="16 x 64 pixels are too small for the receptive field 33, which needs 17"):
        prepare(UninformedStudentsDetector, settings((17, 33)), images=MemoryImages((16, 64)))
    for part in ("train", "validation"):
        images = MemoryImages(SIZE)
        images.samples = [sample for sample in images.samples if sample.subset != part]
        with pytest.raises(InputError, match=f"the split has no {part} image"):
            prepare(UninformedStudentsDetector, settings(), images=images, split=split_of(images))


def test_images_of_more_than_half_the_receptive_field_are_taken(prepare):
    prepare(UninformedStudentsDetector, settings((33,)), images=MemoryImages((17, 17)))


def test_a_pool_that_is_not_there_is_refused_before_anything_is_trained(prepare, train_context):
    with pytest.raises(InputError, match="nowhere"):
        prepare(UninformedStudentsDetector, settings(pool="nowhere"))
    assert not train_context.models.root.exists()


@pytest.mark.parametrize(("size", "supports"), [(17, True), ([64, 16], False), ([17, 64], True)])
def test_images_too_small_for_a_receptive_field_cannot_be_seen(size, supports):
    dataset = DatasetParameters(name="textures", category="brick", image_size=size)
    assert settings((17, 33)).supports(dataset) == supports


@pytest.mark.parametrize("normalisation", ["overall", "per_pixel"])
def test_a_kept_detector_whose_constants_training_images_gave_opens(normalisation):
    given = settings(scoring={"normalisation": normalisation})
    blocks = given.model_dump(mode="json")
    blocks["student_scoring"]["error"] = "absolute"  # the only one that is left
    assert UninformedStudentsSettings.of_kept(blocks) == given


@pytest.mark.parametrize("normalisation", ["held_out", "position", None])
def test_a_kept_detector_whose_constants_validation_images_gave_is_refused(normalisation):
    blocks = settings().model_dump(mode="json")
    blocks["student_scoring"]["normalisation"] = normalisation
    if normalisation is None:  # before there was a choice
        del blocks["student_scoring"]["normalisation"]
    with pytest.raises(InputError, match=r"student_scoring.normalisation=\w+ \(by which validation images"):
        UninformedStudentsSettings.of_kept(blocks)


def test_a_kept_detector_of_relative_errors_is_refused():
    blocks = settings().model_dump(mode="json")
    blocks["student_scoring"]["error"] = "relative"
    with pytest.raises(InputError, match=r"student_scoring.error=relative \(removed"):
        UninformedStudentsSettings.of_kept(blocks)
