"""Networks, losses and maps on the device `meta`, which has shapes and no values: nothing on the way may leave it."""

import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.efficient_ad.parameters import EfficientAdParameters
from kdad.detectors.efficient_ad.training import hard_feature_loss, new_networks
from kdad.detectors.mkd.cloner import build_cloner
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, DiscrepancyParameters
from kdad.detectors.reverse_distillation.detector import ReverseStudent, reverse_loss, reverse_map
from kdad.detectors.stfpm.detector import pyramid_loss, pyramid_map
from kdad.detectors.uninformed_students.maps import predictive_variance, regression_error, spread_grid
from kdad.detectors.uninformed_students.students import student_errors
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble
from kdad.networks.weights import load_source

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
