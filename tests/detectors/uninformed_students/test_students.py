"""Students learn together what they would learn apart, from training images only, and resume to the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.detectors.uninformed_students.students import student_errors, train_students
from kdad.errors import InputError
from kdad.features.image_descriptors import check_images, open_descriptors
from kdad.images.image_set import ImageSet
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.training.checkpoints import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


class _Pictures(ImageSet):
    name, category, size = "random", "images", (20, 23)

    def __init__(self, images):
        self.images = images.numpy()
        self.samples = list(range(len(images)))

    def image(self, index):
        return self.images[index]


@pytest.fixture
def pictures():
    return _Pictures(torch.rand(7, 3, 20, 23, generator=torch.Generator().manual_seed(4)))


@pytest.fixture
def table(split_table):
    return split_table.assign(id=[str(row) for row in range(7)], fingerprint=[str(row) for row in range(7)])


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return PatchDescriptor(17, 6, 0.05).requires_grad_(False).eval()


def _parameters(count=2, epochs=2, **top) -> StudentParameters:
    training = {"epochs": epochs, "batch_size": 2, "checkpoint_every": 1}
    return StudentParameters(receptive_fields=[17], count=count, training=training, **top)


@pytest.fixture
def describe(tmp_path, pictures, table, teacher):
    def run(parameters, folder="descriptors", split=table):
        return open_descriptors(tmp_path / folder, pictures, split, teacher, "key", parameters, _FLOAT32)

    return run


@pytest.fixture
def train(tmp_path, table, describe):
    def run(parameters, seed=0, folder="first", descriptors=None):
        checkpoint = CheckpointFile(tmp_path / folder / "students.checkpoint", "key")
        found = descriptors or describe(parameters)
        return train_students(found, table, 0.05, parameters, seed, checkpoint)

    return run


def _equal(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_student_errors_by_hand():
    targets = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    predictions = torch.zeros(1, 2, 2, 1, 2)
    predictions[0, 1] = torch.tensor([[[1.0, 0.0]], [[2.0, 2.0]]])
    # The first student: 1 + 4 at both places; the second: 0, and 1 + 0: half in the mean
    assert student_errors(predictions, targets).tolist() == [[5.0, 0.5]]


def test_mean_and_sd_are_those_of_training_images(pictures, table, teacher, describe):
    parameters = _parameters()
    found = describe(parameters)
    rows = np.flatnonzero(table["split"] == "train")
    with torch.no_grad():
        own = teacher.dense(torch.from_numpy(pictures.images[rows]), 4).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(found.mean.double(), own.mean(dim=1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.sd.double(), own.std(dim=1, correction=0), rtol=1e-4, atol=1e-6)


def test_other_images_do_not_move_mean_and_sd(pictures, table, describe):
    before = describe(_parameters())
    for row in np.flatnonzero(table["split"] != "train"):
        pictures.images[row] = 1 - pictures.images[row]
    after = describe(_parameters(), folder="again")
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.sd, after.sd)


def test_kept_descriptors_are_those_computed_anew(describe, train):
    kept = describe(_parameters(descriptors="cache"), folder="kept")
    anew = describe(_parameters(descriptors="recompute"), folder="anew")
    assert kept.cache is not None
    assert anew.cache is None
    rows = np.array([1, 4])
    torch.testing.assert_close(kept.targets(rows), anew.targets(rows), rtol=1e-5, atol=1e-5)
    _, first = train(_parameters(), folder="a", descriptors=kept)
    _, second = train(_parameters(), folder="b", descriptors=anew)
    np.testing.assert_allclose(first["value"], second["value"], rtol=1e-3)


def test_together_is_apart(train, describe, monkeypatch):
    together, _ = train(_parameters(count=3, epochs=1))
    alone = together.__class__(3, 17, 6, 0.05, 0)
    descriptors = describe(_parameters())
    images, targets = descriptors.images(np.array([1, 3])), descriptors.targets(np.array([1, 3]))
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
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    students, _ = train(_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    addresses = [parameter.data_ptr() for parameter in (*teacher.parameters(), *students.parameters())]
    assert len(set(addresses)) == len(addresses)


def test_resumed_students_equal_uninterrupted_ones(monkeypatch, train):
    parameters = _parameters(epochs=3)
    students, history = train(parameters)
    train_killed_at(monkeypatch, 1, train, parameters, folder="cut")
    resumed, resumed_history = train(parameters, folder="cut")
    assert _equal(students, resumed)
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_flips_are_learnt_from_new_descriptors(train):
    plain, _ = train(_parameters(), folder="plain")
    flipped, history = train(_parameters(augmentation="flips"), folder="flipped")
    assert not _equal(plain, flipped)
    assert np.isfinite(history["value"]).all()


def test_training_lowers_the_error(train):
    _, history = train(_parameters(epochs=30))
    error = history[(history["split"] == "training") & (history["term"] == "error_of_a_student")]["value"].to_numpy()
    assert error[-1] < 0.9 * error[0]


def test_small_images_and_empty_splits_are_refused(table):
    with pytest.raises(InputError, match="images of 20 x 64 pixels are smaller than the receptive field 33"):
        check_images(table, (20, 64), [17, 33])
    check_images(table, (33, 33), [17, 33])
    for split in ("train", "validation"):
        with pytest.raises(InputError, match=f"the split has no {split} image"):
            check_images(table[table["split"] != split], (64, 64), [17])


def test_no_students_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        _parameters(count=0)
