"""Students learn together what they would learn apart, from training images only, and resume to the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.learnt import state_of
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.detectors.uninformed_students.students import Standardisation, student_errors, train_students
from kdad.detectors.uninformed_students.teacher import TeacherReference
from kdad.features.extraction import ExtractionOptions, FeatureSet, obtain_features
from kdad.features.network import FrozenNetwork
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble
from kdad.networks.weights import fingerprint_state
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
