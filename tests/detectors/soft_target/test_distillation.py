"""Teachers and students are trained on the images of their lesson alone, once for what they depend on."""

import numpy as np
import pytest
import torch

from kdad.detectors.soft_target import distillation as module
from kdad.detectors.soft_target.classifier import Classifier
from kdad.detectors.soft_target.distillation import Distillation
from kdad.detectors.soft_target.training import Lesson
from kdad.images.published.one_class import classified_images, image_batch


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

    train_classifier = module.train_classifier
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
