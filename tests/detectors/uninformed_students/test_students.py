"""Students learn together what they would learn apart, from training images only, and resume to the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.learnt import state_of
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.detectors.uninformed_students.students import (
    Standardisation,
    every_part,
    fuse_maps,
    parts_of,
    predictive_variance,
    regression_error,
    spread_grid,
    student_errors,
    train_students,
)
from kdad.detectors.uninformed_students.teacher import TeacherReference
from kdad.features.extraction import ExtractionOptions, FeatureSet, obtain_features
from kdad.features.network import FrozenNetwork
from kdad.images.statistics import ChannelStatistics
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble
from kdad.networks.weights import fingerprint_state
from kdad.scoring.per_pixel import ZScore
from kdad.storage.content_store import ContentStore
from kdad.training.loop import CheckpointFile
from memory_images import MemoryImages, split_of

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)
_PARTS = ["test", "train", "validation", "train", "train", "validation", "train"]


@pytest.fixture
def pictures():
    return MemoryImages((20, 23), seed=4, parts=_PARTS)


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(1)
    network = PatchDescriptor(17, 6, 0.05)
    save_file(state_of(network), tmp_path / "teacher.safetensors")
    given = {"receptive_field": 17, "depth": 6, "width": 0.05, "stride": 4}
    fingerprint = fingerprint_state(network.state_dict())
    return FrozenNetwork(
        TeacherReference(**given, weights=str(tmp_path / "teacher.safetensors"), fingerprint=fingerprint), _FLOAT32
    )


def _parameters(count=2, epochs=2, **top) -> StudentParameters:
    training = {"epochs": epochs, "batch_size": 2, "checkpoint_every": 1}
    return StudentParameters(receptive_fields=[17], count=count, training=training, **top)


@pytest.fixture
def describe(tmp_path, pictures, teacher):
    def run(keep=True, folder="descriptors"):
        split = split_of(pictures)
        cache = obtain_features(ContentStore(tmp_path / folder), teacher, pictures, split, ExtractionOptions(3, keep))
        return FeatureSet(pictures, split, {"p17": cache})

    return run


def _standardise(feature_set):
    return Standardisation.of(feature_set.features["p17"].statistics[0], _FLOAT32.device)


@pytest.fixture
def train(tmp_path, teacher, describe):
    def run(parameters, seed=0, folder="first", feature_set=None):
        checkpoint = CheckpointFile(tmp_path / folder / "students.checkpoint", "key")
        feature_set = feature_set or describe()
        students = _FLOAT32.place(StudentEnsemble(parameters.count, 17, 6, 0.05, seed))
        shared = (students, teacher, feature_set, _standardise(feature_set), parameters, _FLOAT32, seed)
        return students, train_students(*shared, checkpoint)

    return run


def _equal(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_student_errors_by_hand():
    targets = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    predictions = torch.zeros(1, 2, 2, 1, 2)
    predictions[0, 1] = torch.tensor([[[1.0, 0.0]], [[2.0, 2.0]]])
    # The first student: 1 + 4 at both places; the second: 0, and 1 + 0: half in the mean
    assert student_errors(predictions, targets).tolist() == [[5.0, 0.5]]


def test_mean_and_sd_are_those_of_training_images(pictures, teacher, describe):
    rows = [1, 3, 4, 6]
    with torch.no_grad():
        own = teacher.module.descriptor.dense(torch.from_numpy(pictures.pixels[rows]), 4)
    own = own.transpose(0, 1).flatten(1).double()
    for keep in (True, False):
        found = _standardise(describe(keep, folder=f"kept {keep}"))
        torch.testing.assert_close(found.mean.double(), own.mean(dim=1), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.sd.double(), own.std(dim=1, correction=0), rtol=1e-4, atol=1e-6)


def test_other_images_do_not_move_mean_and_sd(pictures, describe):
    before = _standardise(describe())
    for row in (0, 2, 5):
        pictures.pixels[row] = 1 - pictures.pixels[row]
    after = _standardise(describe(folder="again"))
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.sd, after.sd)


def test_standardised_descriptors_by_hand():
    standardise = Standardisation.of({"mean": [1.0, 2.0, 3.0], "sd": [2.0, 0.5, 0.0]}, torch.device("cpu"))
    found = standardise(torch.tensor([5.0, 1.0, 4.0]).view(1, 3, 1, 1))
    assert found.flatten().tolist() == [2.0, -2.0, 1.0]  # a constant channel keeps its scale


def test_targets_are_standardised_over_the_training_images(describe):
    feature_set = describe()
    targets = (
        _standardise(feature_set)(feature_set.outputs(np.array([1, 3, 4, 6]))["p17"][0]).transpose(0, 1).flatten(1)
    )
    torch.testing.assert_close(targets.mean(dim=1), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(targets.std(dim=1, correction=0), torch.ones(6), rtol=1e-4, atol=0)


def test_kept_descriptors_are_those_computed_anew(describe, train, teacher):
    kept, anew = describe(True, folder="kept"), describe(False, folder="anew")
    rows = np.array([1, 4])
    assert anew.outputs(rows) is None
    torch.testing.assert_close(kept.outputs(rows)["p17"][0], teacher.outputs(anew.batch(rows))[0], rtol=1e-5, atol=1e-5)
    _, first = train(_parameters(), folder="a", feature_set=kept)
    _, second = train(_parameters(), folder="b", feature_set=anew)
    np.testing.assert_allclose(first["value"], second["value"], rtol=1e-3)


def test_together_is_apart(describe):
    alone = StudentEnsemble(3, 17, 6, 0.05, 0)
    feature_set, rows = describe(), np.array([1, 3])
    images, targets = feature_set.batch(rows), _standardise(feature_set)(feature_set.outputs(rows)["p17"][0])
    student_errors(alone.dense(images, 4), targets).mean(dim=0).sum().backward()
    gradients = [parameter.grad.clone() for parameter in alone.parameters()]
    for index in range(3):
        alone.zero_grad()
        student_errors(alone.dense(images, 4), targets).mean(dim=0)[index].backward()
        for parameter, gradient in zip(alone.parameters(), gradients, strict=True):
            if parameter.grad is not None and parameter.grad.any():
                torch.testing.assert_close(parameter.grad, gradient)  # the sum's gradient is this student's own


def test_a_student_does_not_depend_on_how_many_there_are(train):
    one, _ = train(_parameters(count=1), folder="one")
    two, _ = train(_parameters(count=2), folder="two")
    images = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(one.dense(images, 4)[:, 0], two.dense(images, 4)[:, 0], rtol=1e-4, atol=1e-5)
        assert (two.dense(images, 4)[:, 0] - two.dense(images, 4)[:, 1]).abs().max() > 1e-3


def test_teacher_and_students_share_nothing_and_the_teacher_learns_nothing(teacher, train):
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    students, _ = train(_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.module.state_dict().items())
    addresses = [parameter.data_ptr() for parameter in (*teacher.module.parameters(), *students.parameters())]
    assert len(set(addresses)) == len(addresses)


def test_resumed_students_equal_uninterrupted_ones(monkeypatch, train):
    parameters = _parameters(epochs=3)
    students, history = train(parameters)
    train_killed_at(monkeypatch, 1, train, parameters, folder="cut")
    resumed, resumed_history = train(parameters, folder="cut")
    assert _equal(students, resumed)
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_training_lowers_the_error(train):
    _, history = train(_parameters(epochs=30))
    error = history[(history["split"] == "training") & (history["term"] == "error_of_a_student")]["value"].to_numpy()
    assert error[-1] < 0.9 * error[0]


def test_no_students_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        _parameters(count=0)


#: Two students at one position of one image, three channels: means (2, 1, 0), halves of the differences (1, 1, 0).
_PREDICTIONS = torch.tensor([[1.0, 0.0, 0.0], [3.0, 2.0, 0.0]]).view(1, 2, 3, 1, 1)


def standard_of(values: np.ndarray) -> ZScore:
    """Return the mean and deviation of all values."""
    statistics = ChannelStatistics()
    statistics.update(np.asarray(values).reshape(-1, 1))
    return ZScore.of(statistics)


def test_regression_error_by_hand():
    targets = torch.tensor([1.0, 1.0, 2.0]).view(1, 3, 1, 1)
    # (2 - 1)^2 + (1 - 1)^2 + (0 - 2)^2
    assert regression_error(_PREDICTIONS, targets).tolist() == [[[5.0]]]


def test_predictive_variance_by_hand():
    # (1 + 13) / 2 - (4 + 1)
    assert predictive_variance(_PREDICTIONS).tolist() == [[[2.0]]]


def test_every_position_of_every_image_has_its_own_value():
    predictions, targets = torch.zeros(2, 2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    predictions[1, :, :, 2, 3] = _PREDICTIONS[0, :, :, 0, 0]
    expected = torch.zeros(2, 4, 5)
    expected[1, 2, 3] = 5.0  # 4 + 1 + 0
    assert torch.equal(regression_error(predictions, targets), expected)
    expected[1, 2, 3] = 2.0
    assert torch.equal(predictive_variance(predictions), expected)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6))
def test_predictive_variance_is_the_published_difference(seed, students, depth):
    generator = torch.Generator().manual_seed(seed)
    predictions = torch.randn(2, students, depth, 3, 2, generator=generator, dtype=torch.float64)
    mean = predictions.mean(dim=1)
    published = predictions.square().sum(dim=2).mean(dim=1) - mean.square().sum(dim=1)
    torch.testing.assert_close(predictive_variance(predictions), published, rtol=0, atol=1e-12)


def test_predictive_variance_of_one_student_is_exactly_0():
    predictions = 1000 * torch.randn(2, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert (predictive_variance(predictions) == 0).all()


def test_predictive_variance_of_students_that_agree_far_from_0_is_not_lost():
    predictions = 1e4 + _PREDICTIONS
    assert predictive_variance(predictions).item() == 2.0


def test_map_constants_by_hand():
    maps = np.array([[[1.0, 3.0]], [[5.0, 7.0]]], dtype=np.float32)
    # mean 16 / 4; squared distances 9 + 1 + 1 + 9 over 4
    constants = standard_of(maps)
    assert constants == ZScore(mean=4.0, sd=5**0.5)
    normalised = constants.normalise(torch.from_numpy(maps))
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.flatten(), np.array([-3, -1, 1, 3]) / 5**0.5, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_a_constant_map_has_sd_1(value):
    constants = standard_of(np.full((2, 4, 4), value, dtype=np.float32))
    assert (constants.mean, constants.sd) == (pytest.approx(value), 1.0)
    assert constants.normalise(torch.full((1, 1, 1), value + 2)).item() == pytest.approx(2)


def test_fusion_of_two_scales_by_hand():
    def one(value, mean, sd):
        return torch.full((1, 1, 1), value), ZScore(mean=mean, sd=sd)

    e17, v17 = one(5.0, 1.0, 2.0), one(3.0, 0.0, 1.0)  # 2 and 3
    e33, v33 = one(0.0, 1.0, 0.5), one(6.0, 2.0, 4.0)  # -2 and 1
    assert fuse_maps([e17, v17, e33, v33], scales=2).tolist() == [[[2.0]]]  # (2 + 3 - 2 + 1) / 2
    assert fuse_maps([e17, v17], scales=1).tolist() == [[[5.0]]]
    assert fuse_maps([e17, e33], scales=2).tolist() == [[[0.0]]]


_SIZES = [(9, 9), (8, 8), (10, 7), (11, 12), (5, 6)]


def _known(size, stride) -> np.ndarray:
    shape = (3, *(-(-side // stride) for side in size))
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_spreading_keeps_known_pixels(size, stride):
    maps = _known(size, stride)
    found = spread_grid(torch.from_numpy(maps), stride, size).numpy()
    assert found.shape == (3, *size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, ::stride, ::stride], maps, atol=1e-6)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("stride", [2, 4])
def test_spreading_is_linear_between_known_pixels_and_repeats_after_the_last(size, stride):
    maps = _known(size, stride)
    expected = maps
    for axis, side in ((1, size[0]), (2, size[1])):
        # np.interp repeats the last value beyond it.
        places = np.arange(expected.shape[axis]) * stride
        expected = np.apply_along_axis(
            lambda line, at, side=side: np.interp(np.arange(side), at, line), axis, expected, places
        )
    np.testing.assert_allclose(spread_grid(torch.from_numpy(maps), stride, size), expected, atol=1e-6)


def test_spreading_by_hand():
    maps = torch.tensor([[[0.0, 4.0, 2.0]]])
    row = [0, 1, 2, 3, 4, 3.5, 3, 2.5, 2, 2, 2, 2]
    assert spread_grid(maps, 4, (3, 12)).tolist() == [[row] * 3]
    assert spread_grid(maps, 4, (1, 9)).tolist() == [[row[:9]]]
    assert spread_grid(maps, 2, (2, 6)).tolist() == [[[0, 2, 4, 3, 2, 2]] * 2]


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("combined", [17, 33], ["e_p17", "v_p17", "e_p33", "v_p33"]),
        ("regression_error", [17, 33], ["e_p17", "e_p33"]),
        ("predictive_variance", [33], ["v_p33"]),
        ("combined_p33", [17, 33], ["e_p33", "v_p33"]),
        ("combined_p33", [33], []),
        ("combined_p65", [17, 33], []),
    ],
)
def test_what_a_map_adds_up(method, fields, expected):
    assert parts_of(method, fields) == expected


def test_every_part():
    assert every_part([17, 65]) == ["e_p17", "v_p17", "e_p65", "v_p65"]
