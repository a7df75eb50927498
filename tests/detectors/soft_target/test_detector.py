"""Soft targets as a detector: disagreement by hand, and which images neither network has learnt from."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import rel_entr, softmax

from kdad.detectors import load
from kdad.detectors.detector import TrainContext
from kdad.detectors.learnt import state_of
from kdad.detectors.soft_target import distillation as module
from kdad.detectors.soft_target.detector import ClassifierReference, SoftTargetDetector
from kdad.detectors.soft_target.distillation import Classifier
from kdad.errors import InputError
from kdad.metrics.ranking import image_auroc
from kdad.networks.weights import fingerprint_state
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
def test_a_folder_predicts_files_with_teacher_and_student(labelled, settings, fit, tmp_path, channels):
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
    table = fit(SoftTargetDetector, settings, images=labelled(), split="the system's own").feature_set.split.table
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
        parts.append(prepare(SoftTargetDetector, settings, **given).feature_set.split.digest)
    assert parts[0] == parts[1] != parts[2]


def test_a_set_without_classes_is_refused(settings, prepare):
    with pytest.raises(InputError, match="soft_target needs a labelled set, and memory has no classes"):
        prepare(SoftTargetDetector, settings)


def test_only_labelled_sets_can_be_seen(settings):
    labelled = DatasetParameters(name="digits", normal_class=3, image_size=32)
    textures = DatasetParameters(name="textures", category="brick", image_size=64)
    assert settings.supports(labelled)
    assert not settings.supports(textures)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def classifier(request):
    torch.manual_seed(0)
    return Classifier(request.param, 5, [4, 6], 7).eval()


@pytest.fixture
def reference(tmp_path, classifier):
    path = tmp_path / "made" / "network.safetensors"
    path.parent.mkdir()
    save_file(state_of(classifier), path)
    shape = {"channels": classifier[0].in_channels, "classes": 5, "widths": [4, 6], "hidden": 7}
    return ClassifierReference(**shape, weights=str(path), fingerprint=fingerprint_state(classifier.state_dict()))


def test_its_output_is_the_logits_at_one_position(reference, classifier):
    channels = reference.channels
    images = torch.rand(3, channels, 12, 10).expand(-1, 3, -1, -1)
    network = reference.open()
    (found,) = network(images)
    assert found.shape == (3, 5, 1, 1)
    assert torch.equal(found[..., 0, 0], classifier(2 * images[:, :channels] - 1))
    (point,) = network.describe((12, 10))
    assert (point.channels, point.height, point.width) == found.shape[1:]


def test_it_is_frozen(reference):
    network = reference.open()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_classifier_of_the_same_form_but_another_hash_is_refused(reference):
    save_file(state_of(Classifier(reference.channels, 5, [4, 6], 7)), reference.weights)
    with pytest.raises(InputError, match=f"holds other weights: their hash is not {reference.fingerprint}"):
        reference.open()


def test_a_missing_and_a_damaged_file_are_refused(reference, tmp_path):
    with pytest.raises(InputError, match=r"the weights '.*none' cannot be read .* make them again"):
        reference.model_copy(update={"weights": str(tmp_path / "none")}).open()
    with open(reference.weights, "r+b") as file:  # noqa: PTH123
        file.truncate(50)
    with pytest.raises(InputError, match=r"cannot be read .* make them again"):
        reference.open()


def test_a_kept_classifier_is_found_in_its_folder_wherever_that_lies(reference, tmp_path):
    kept = tmp_path / "detector"
    kept.mkdir()
    named = reference.keep(kept, "teacher")
    assert named.weights == "teacher.safetensors"
    assert named.identity == reference.identity
    shutil.rmtree(tmp_path / "made")
    kept.rename(tmp_path / "moved")
    found = named.within(tmp_path / "moved").open()
    assert fingerprint_state(found.classifier.state_dict()) == reference.fingerprint
    assert reference.within(kept) == reference
