"""Networks, losses and maps on the device `meta`, which has shapes and no values: nothing on the way may leave it."""

import json

import numpy as np
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.efficient_ad.parameters import EfficientAdParameters
from kdad.detectors.efficient_ad.training import hard_feature_loss, new_networks
from kdad.detectors.evaluation import calibrate_float32
from kdad.detectors.mkd.cloner import build_cloner
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, DiscrepancyParameters, MkdSettings
from kdad.detectors.opening import open_detector
from kdad.detectors.reverse_distillation.detector import ReverseStudent, reverse_loss, reverse_map
from kdad.detectors.stfpm.detector import pyramid_loss, pyramid_map
from kdad.detectors.uninformed_students.maps import predictive_variance, regression_error, spread_grid
from kdad.detectors.uninformed_students.students import student_errors
from kdad.errors import InputError
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble
from kdad.networks.weights import load_source
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore

_META = Compute(torch.device("meta"), torch.float32)
_SIZE = (64, 96)


@pytest.fixture
def images():
    return torch.empty(2, 3, *_SIZE, device="meta")


@pytest.fixture(params=["timm:test_resnet", "timm:test_vit"])
def name(request):
    return request.param


@pytest.fixture
def source(name):
    return _META.place(load_source(name, "random"))


def test_a_cloner_learns_where_it_is(images, name, source):
    points = load_source(name, "random").describe(_SIZE)
    architecture = ArchitectureParameters(hidden_width=4)
    cloner = _META.place(build_cloner(architecture, name, points, _SIZE, ([0.0] * 3, [1.0] * 3)))
    terms = discrepancy_terms(source(images), cloner(_META.move(images)), DiscrepancyParameters())
    terms["total"].mean().backward()
    assert {tensor.grad.device.type for tensor in cloner.parameters()} == {"meta"}


def test_students_learn_where_they_are(images):
    teacher = _META.place(PatchDescriptor(33, 16, 0.25))
    students = _META.place(StudentEnsemble(3, 33, 16, 0.25, seed=0))
    with torch.no_grad():
        targets = teacher.dense(images, 4)
    predictions = students.dense(images, 4)
    student_errors(predictions, targets).mean().backward()
    for maps in (regression_error(predictions, targets), predictive_variance(predictions)):
        spread = spread_grid(maps, 4, _SIZE)
        assert spread.device.type == "meta" and spread.shape == (2, *_SIZE)


def test_pyramids_are_compared_where_they_are(images, name, source):
    student = _META.place(load_source(name, "random").requires_grad_(True))
    found, known = student(images), source(images)
    pyramid_loss(known, found).mean().backward()
    assert pyramid_map(known, found, _SIZE).device.type == "meta"


def test_a_decoder_learns_where_it_is(images, name, source):
    student = _META.place(ReverseStudent(load_source(name, "random").describe(_SIZE)))
    known = source(images)
    found = student(known)
    reverse_loss(known, found, "both").mean().backward()
    assert {tensor.grad.device.type for tensor in student.parameters()} == {"meta"}
    assert reverse_map(known, found, _SIZE, "geometric_mean").device.type == "meta"


def test_a_student_and_an_autoencoder_learn_where_they_are(images):
    networks = _META.place(new_networks(EfficientAdParameters(), _SIZE, seed=0))
    predicted, found = networks["student"].dense(images, 4), networks["autoencoder"](images)
    errors = (predicted[:, :128] - found).square()
    (hard_feature_loss(errors, 0.999).mean() + (predicted[:, 128:] - found).square().mean()).backward()
    assert {tensor.grad.device.type for tensor in networks.parameters()} == {"meta"}


_SETTINGS = MkdSettings(
    source={"name": "timm:test_resnet", "weights": "random"},
    features={},
    cloner={"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 2, "batch_size": 4}},
    scoring={"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 1.0}}},
)


@pytest.fixture
def made(fit, tmp_path):
    """A calibrated detector that computes in bfloat16, with its images."""
    train_context = TrainContext(Compute(torch.device("cpu"), torch.bfloat16), 0, ContentStore(tmp_path / "models"))
    detector, seen, _ = fit(MkdDetector, _SETTINGS, train_context=train_context)
    validation = detector.score_and_show(seen.batch(seen.split.rows("validation")))[0]
    return detector.calibrated(quantile_threshold(validation, 0.5), validation), seen


def test_the_threshold_of_float32_is_of_the_scores_in_float32(made, tmp_path):
    detector, seen = made
    calibrate_float32(detector, seen, 0.5)
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu", "float32")
    assert opened.compute.dtype == torch.float32
    scores, _ = opened.score_and_show(seen.batch(seen.split.rows("validation")))
    np.testing.assert_allclose(opened.validation_scores, np.sort(scores), rtol=1e-5)
    assert opened.threshold.value == pytest.approx(np.sort(scores)[2], rel=1e-5)  # the third of four: 5 * 0.5, up
    assert opened.threshold.value != detector.threshold.value
    # In its own format it is as it was.
    own = open_detector(tmp_path / "kept", "cpu", "bfloat16")
    if own.compute.dtype == torch.bfloat16:
        assert own.threshold == detector.threshold
        assert own.in_float32 == detector.in_float32


def test_without_one_it_decides_nothing_and_says_the_command(made, tmp_path, caplog):
    detector, seen = made
    folder = detector.save(tmp_path / "kept")
    opened = open_detector(folder, "cpu", "float32")
    assert opened.threshold is None
    assert "in bfloat16 that does not hold in float32" in caplog.text
    assert f'--params "calibration.detector={folder},calibration.images=FOLDER"' in caplog.text
    with pytest.raises(InputError, match="no threshold"):
        opened.predict_batch(seen.batch(seen.split.rows("test")))


def test_one_that_was_made_in_float32_needs_no_other(fit, train_context, tmp_path):
    detector, seen, _ = fit(MkdDetector, _SETTINGS, train_context=train_context)
    calibrate_float32(detector, seen, 0.5)
    assert detector.float32_twin() is None and detector.in_float32 is None
    facts = json.loads((detector.save(tmp_path / "kept") / "detector.json").read_text())
    assert (facts["precision"], facts["in_float32"]) == ("float32", None)


def test_a_twin_says_what_the_opened_folder_says(made, tmp_path):
    detector, seen = made
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu", "float32")
    images = seen.batch(seen.split.rows("test"))
    np.testing.assert_array_equal(detector.float32_twin().score_and_show(images)[0], opened.score_and_show(images)[0])
