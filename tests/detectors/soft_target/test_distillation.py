"""Teachers and students are trained on the images of their lesson alone, once for what they depend on."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.soft_target import distillation as module
from kdad.detectors.soft_target.distillation import (
    UNLABELLED,
    Classifier,
    Distillation,
    Lesson,
    best_offset,
    predict_logits,
    soft_target_terms,
    soften,
    softened_divergence,
    train_classifier,
)
from kdad.detectors.soft_target.parameters import ClassifierParameters
from kdad.images.one_class import classified_images, image_batch
from kdad.training.loop import CheckpointFile

LOG_3 = math.log(3)


def test_softened_by_hand():
    # e^(ln 9 / 2) = 3: shares 3/4 and 1/4; at T = 1 they are 9/10 and 1/10.
    logits = torch.tensor([[math.log(9), 0.0]])
    torch.testing.assert_close(soften(logits, 2), torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(soften(logits, 1), torch.tensor([[0.9, 0.1]]))


def test_a_larger_temperature_is_softer():
    logits = torch.tensor([[3.0, 1.0, -2.0]])
    highest = [float(soften(logits, temperature).max()) for temperature in (0.5, 1, 2, 8, 100)]
    assert highest == sorted(highest, reverse=True)
    assert highest[-1] == pytest.approx(1 / 3, abs=0.02)


def test_divergence_by_hand():
    # Teacher (3/4, 1/4) at T = 1, student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = softened_divergence(torch.zeros(1, 2), torch.tensor([[LOG_3, 0.0]]), 1.0)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(softened_divergence(torch.tensor([[LOG_3, 0.0]]), torch.tensor([[LOG_3, 0.0]]), 3.0)) == pytest.approx(
        0, abs=1e-7
    )


def test_terms_by_hand():
    # At T = 2 the teacher's (2 ln 3, 0) is (3/4, 1/4); the student is even, so CE = ln 2 at any label.
    terms = soft_target_terms(
        torch.zeros(2, 2), torch.tensor([[2 * LOG_3, 0.0]] * 2), torch.tensor([1, UNLABELLED]), 2.0, 0.25
    )
    soft = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    torch.testing.assert_close(terms["soft"], torch.tensor([soft, soft]))
    torch.testing.assert_close(terms["hard"], torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(
        terms["total"], torch.tensor([0.25 * soft + 0.75 * math.log(2), 0.25 * soft]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_at_its_ends(alpha):
    terms = soft_target_terms(torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 2]), 3.0, alpha)
    torch.testing.assert_close(terms["total"], terms["soft"] if alpha else terms["hard"])


def test_the_gradient_keeps_its_scale_when_temperature_changes():
    # At high T the gradient of T^2 KL is (z_s - z_t) / K for logits of zero mean (section 2.1), whatever T is.
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 5, generator=generator)
    teacher -= teacher.mean()
    for temperature in (200.0, 1000.0):
        student = torch.zeros(1, 5, requires_grad=True)
        soft_target_terms(student, teacher, torch.tensor([0]), temperature, 1.0)["total"].sum().backward()
        torch.testing.assert_close(student.grad, -teacher / 5, rtol=0.01, atol=2e-3)


def accuracy(logits: torch.Tensor, labels: torch.Tensor, number: int, offset: float) -> int:
    shifted = logits.clone()
    shifted[:, number] += offset
    return int((shifted.argmax(1) == labels).sum())


def test_by_hand():
    # Class 0 takes the images from offsets 1, 2 and 5 on; the first two are of it, the last of class 1.
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 5.0]])
    assert best_offset(logits, torch.tensor([0, 0, 1]), 0) == 3.5


def test_a_class_that_takes_nothing_rightly_is_pushed_below_all():
    logits = torch.tensor([[3.0, 0.0], [2.0, 0.0]])
    offset = best_offset(logits, torch.tensor([1, 1]), 0)
    assert accuracy(logits, torch.tensor([1, 1]), 0, offset) == 2


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 10_000))
def test_no_other_offset_is_better(count, number, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    best = accuracy(logits, labels, number, best_offset(logits, labels, number))
    assert best >= max(accuracy(logits, labels, number, float(offset)) for offset in torch.linspace(-8, 8, 81))


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
    monkeypatch.setattr("kdad.detectors.soft_target.distillation._BATCH", 7)
    torch.testing.assert_close(predict_logits(network, images.train, _FLOAT32), expected)


@pytest.fixture
def distillation(labelled, settings, train_context):
    images = classified_images(labelled(), 0)
    return Distillation(images, settings.soft_target, train_context.compute, train_context.models)


@pytest.fixture
def lessons(monkeypatch):
    """The lessons that were taught, with the teacher's logits."""
    taught = []

    def train(images, lesson, logits, *rest):
        taught.append((lesson, logits))
        return train_classifier(images, lesson, logits, *rest)

    monkeypatch.setattr(module, "train_classifier", train)
    return taught


def test_a_teacher_learns_all_labels_but_those_held_out(distillation, lessons):
    distillation.teacher(0)
    ((lesson, logits),) = lessons
    assert set(lesson.rows) == set(range(48)) - set(distillation.images.validation_rows)
    assert set(lesson.labelled) == set(lesson.rows)
    assert logits is None


def test_a_student_of_one_class_sees_its_images_without_labels_and_the_teachers_logits(distillation, lessons):
    distillation.one_class_student(2, 0)
    lesson, logits = lessons[-1]
    assert set(distillation.images.train.classes[lesson.rows]) == {2}
    assert len(lesson.rows) == 12  # of 16, four are held out
    assert not set(lesson.rows) & set(distillation.images.validation_rows)
    assert (len(lesson.labelled), lesson.temperature, lesson.alpha) == (0, 2, 1.0)
    assert torch.equal(logits, distillation.teacher(0).outputs["train"])


def test_logits_are_those_of_the_kept_network(distillation):
    taught = distillation.teacher(0)
    network = Classifier(1, 3, [4, 6], 6)
    network.load_state_dict(taught.state)
    network.eval()
    for part, found in taught.outputs.items():
        images = getattr(distillation.images, part)
        with torch.no_grad():
            expected = network.classify(image_batch(images, np.arange(len(images.classes))))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_what_was_taught_is_found_again_and_only_that(distillation):
    rows = distillation.images.fit_rows
    lesson = Lesson(rows, rows[:6], 4.0, 0.5)
    first = distillation.student(lesson, 0)
    assert not first.reused
    assert distillation.student(Lesson(rows, rows[:6], 4.0, 0.5), 0).reused
    others = [Lesson(rows, rows[:5], 4.0, 0.5), Lesson(rows, rows[:6], 2.0, 0.5), Lesson(rows, rows[:6], 4.0, 0.6)]
    keys = {first.key, *(distillation.student(other, 0).key for other in others), distillation.student(lesson, 1).key}
    assert len(keys) == 5


def test_accuracy_is_of_the_part_that_is_asked_for(distillation):
    taught = distillation.teacher(0)
    right = taught.outputs["test"].argmax(1).numpy() == distillation.images.test.classes
    assert distillation.test_metrics(taught)["accuracy"] == pytest.approx(right.mean())
    rows = distillation.images.validation_rows
    right = taught.outputs["train"].argmax(1).numpy()[rows] == distillation.images.train.classes[rows]
    assert distillation.validation_accuracy(taught) == pytest.approx(right.mean())


def test_an_easy_task_is_learnt(distillation):
    assert distillation.test_metrics(distillation.teacher(0))["accuracy"] > 0.9


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (32, 32)), (3, (13, 9))])
def test_images_of_any_size_become_logits(channels, size):
    assert Classifier(channels, 10, [4, 8, 6], 5)(torch.rand(2, channels, *size)).shape == (2, 10)


def test_images_are_centred_first():
    network = Classifier(1, 3, [4], 5).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(network.classify(images), network(2 * images - 1))
