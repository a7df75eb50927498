"""Soft targets as a detector: disagreement by hand, and which images neither network has learnt from."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.special import rel_entr, softmax

from kdad.detectors import load
from kdad.detectors.context import TrainContext
from kdad.detectors.soft_target import distillation as module
from kdad.detectors.soft_target.classifier import Classifier
from kdad.detectors.soft_target.detector import SoftTargetDetector
from kdad.errors import InputError
from kdad.metrics.ranking import image_auroc
from kdad.parameters.dataset import DatasetParameters
from kdad.scoring.threshold import quantile_threshold


def divergence(fitted, folder, rows) -> np.ndarray:
    """Work out KL(teacher || student) at T = 2 with SciPy, from a folder's weights and the pixels as bytes."""
    images, logits = fitted.feature_set.images, []
    train, test = images.parts
    pixels = []
    for row in rows:
        part, _, number = images.samples[row].id.partition("/")
        pixels.append((train if part == "train" else test).pixels[int(number)])
    batch = torch.from_numpy(np.stack(pixels)).float() / 255
    batch = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
    for name, widths in (("teacher", [4, 6]), ("learnt", [2, 4])):
        network = Classifier(batch.shape[1], 3, widths, 6)
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
        with torch.no_grad():
            logits.append(network.eval()(2 * batch - 1).double().numpy())
    teacher, student = (softmax(found / 2, axis=1) for found in logits)
    return rel_entr(teacher, student).sum(axis=1)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_the_score_is_the_divergence_of_softened_distributions(labelled, settings, fit, tmp_path, channels):
    fitted = fit(SoftTargetDetector, settings, images=labelled(channels), split="the system's own")
    rows = fitted.feature_set.split.scored
    expected = divergence(fitted, fitted.detector.save(tmp_path / "kept"), rows)
    for outputs in (None, fitted.feature_set.outputs(rows)):
        found = fitted.detector.maps(fitted.feature_set.batch(rows), outputs)
        assert found.maps == {}
        np.testing.assert_allclose(found.scores["disagreement"], expected, rtol=1e-4, atol=1e-5)
    anomalous = fitted.feature_set.split.table.loc[rows, "label"].to_numpy()
    assert image_auroc(anomalous, expected) > 0.9


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_a_folder_judges_files_with_teacher_and_student(labelled, settings, fit, tmp_path, channels):
    images = labelled(channels)
    detector, seen, _ = fit(SoftTargetDetector, settings, images=images, split="the system's own")
    detector.calibrated(quantile_threshold(np.zeros(1), 0.5), np.zeros(1))
    folder = detector.save(tmp_path / "kept")
    assert {path.name for path in folder.iterdir()} == {"detector.json", "learnt.safetensors", "teacher.safetensors"}
    Image.fromarray(images.parts[1].pixels[4]).save(tmp_path / "image.png")
    row = [sample.id for sample in seen.images.samples].index("test/00004")
    expected = detector.maps(seen.batch(np.array([row]))).scores["disagreement"].item()
    found = load(folder, "cpu").predict(tmp_path / "image.png")
    assert found.score == pytest.approx(expected, rel=1e-5)
    assert found.map is None


def test_held_out_images_of_the_class_are_in_neithers_training(labelled, settings, fit, monkeypatch):
    learnt = []

    def train(images, lesson, *rest):
        learnt.append({f"train/{row:05d}" for row in lesson.rows})
        return train_classifier(images, lesson, *rest)

    train_classifier = module.train_classifier
    monkeypatch.setattr(module, "train_classifier", train)
    table = fit(SoftTargetDetector, settings, images=labelled(), split="the system's own").seen.split.table
    teachers, students = learnt
    validation = set(table.loc[table["split"] == "validation", "id"])
    assert len(validation) == 4
    assert not validation & (teachers | students)
    assert students == set(table.loc[table["split"] == "train", "id"]) < teachers


def test_images_keep_the_size_of_their_files(labelled, settings, prepare):
    detector, seen = prepare(SoftTargetDetector, settings, images=labelled(), split="the system's own")
    assert seen.images.size == (12, 10)
    assert labelled().size == (32, 32)
    assert detector.references["teacher"].channels == 1


def test_a_class_shares_its_teacher_with_the_others(labelled, settings, fit):
    first, second = (
        fit(SoftTargetDetector, settings, images=labelled(normal=number), split="the system's own") for number in (0, 2)
    )
    assert first.detector.references == second.detector.references
    assert first.detector.key != second.detector.key
    assert not second.fitting.reused
    assert fit(SoftTargetDetector, settings, images=labelled(normal=0), split="the system's own").fitting.reused


def test_the_split_follows_its_own_seed(labelled, settings, prepare, train_context):
    parts = []
    for seed, split_seed in ((0, 0), (1, 0), (0, 1)):
        place = TrainContext(train_context.compute, seed, train_context.models, split_seed)
        given = {"images": labelled(), "split": "the system's own", "train_context": place}
        parts.append(prepare(SoftTargetDetector, settings, **given).seen.split.digest)
    assert parts[0] == parts[1] != parts[2]


def test_a_set_without_classes_is_refused(settings, prepare):
    with pytest.raises(InputError, match="soft_target needs a labelled set, and memory has no classes"):
        prepare(SoftTargetDetector, settings)


def test_only_labelled_sets_can_be_seen(settings):
    labelled = DatasetParameters(name="digits", normal_class=3, image_size=32)
    textures = DatasetParameters(name="textures", category="brick", image_size=64)
    assert settings.supports(labelled)
    assert not settings.supports(textures)
