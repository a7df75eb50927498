import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.soft_target.parameters import ClassifierParameters
from kdad.detectors.soft_target.training import Lesson, predict_logits, train_classifier
from kdad.images.published.one_class import classified_images
from kdad.training.checkpoints import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture
def images(labelled):
    return classified_images(labelled(), 0)


@pytest.fixture
def train(images, tmp_path):
    def run(lesson, logits=None, folder="first", seed=0, steps=30):
        parameters = ClassifierParameters(widths=[4], hidden=4, steps=steps, batch_size=8)
        checkpoint = CheckpointFile(tmp_path / folder / "checkpoint", "key")
        return train_classifier(images, lesson, logits, parameters, _FLOAT32, seed, checkpoint)

    return run


def _equal(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_a_student_without_labels_is_taught_by_the_logits_alone(images, train):
    rows = images.fit_rows[:6]
    lesson = Lesson(rows, rows[:0], 3.0, 1.0)
    logits = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
    student, _ = train(lesson, logits)
    images.train.classes[rows] = (images.train.classes[rows] + 1) % 3
    assert _equal(student, train(lesson, logits, "other labels")[0])
    others = logits.clone()
    others[np.setdiff1d(np.arange(48), rows)] += 1
    assert _equal(student, train(lesson, others, "logits of other images")[0])
    logits[rows[0]] += torch.tensor([1.0, 0.0, 0.0])
    assert not _equal(student, train(lesson, logits, "its own logits")[0])


def test_labels_that_are_not_given_say_nothing(images, train):
    lesson = Lesson(images.fit_rows, images.fit_rows[:9], 3.0, 0.5)
    logits = torch.zeros(48, 3)
    student, _ = train(lesson, logits)
    hidden = images.fit_rows[9:]
    images.train.classes[hidden] = (images.train.classes[hidden] + 1) % 3
    assert _equal(student, train(lesson, logits, "others")[0])


def test_steps_are_as_many_as_asked_for_however_few_images_there_are(images, train):
    for count in (2, 36):
        rows = images.fit_rows[:count]
        _, history = train(Lesson(rows, rows), folder=str(count), steps=30)
        epochs = history["epoch"].nunique()
        repeated = -(-30 * 8 // (10 * count)) * count
        assert epochs * -(-repeated // 8) >= 30


def test_one_seed_gives_one_network_and_resuming_changes_nothing(images, train, monkeypatch):
    lesson = Lesson(images.fit_rows, images.fit_rows)
    network, history = train(lesson)
    again, _ = train(lesson, folder="again")
    assert _equal(network, again)
    assert not _equal(network, train(lesson, folder="other", seed=1)[0])
    train_killed_at(monkeypatch, 4, train, lesson, folder="early")
    resumed, resumed_history = train(lesson, folder="early")
    assert _equal(network, resumed)
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_predictions_do_not_depend_on_the_batch(images, train, monkeypatch):
    network, _ = train(Lesson(images.fit_rows, images.fit_rows))
    expected = predict_logits(network, images.train, _FLOAT32)
    monkeypatch.setattr("kdad.detectors.soft_target.training._BATCH", 7)
    torch.testing.assert_close(predict_logits(network, images.train, _FLOAT32), expected)
