"""A fused copy of a network against the network itself."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from kdad.compute import choose_compute
from kdad.detectors.mkd.cloner import Cloner
from kdad.detectors.reverse_distillation.detector import ReverseStudent
from kdad.networks.fusion import Fused, for_predicting, fuse
from kdad.networks.source import CriticalPoint, build_source
from kdad.seeding import torch_stream

_SIZE = (32, 48)
_POINTS = [CriticalPoint("a", 24, 8, 12, True), CriticalPoint("b", 40, 4, 6, False)]


def _filled(network: nn.Module) -> nn.Module:
    """Return a network whose statistics and biases are none that a mistake would leave without an effect."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.3, 0.3)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _images(count: int, size=_SIZE) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))


def _assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.fixture
def network(request) -> nn.Module:
    builders = {
        "cloner": lambda: Cloner([[4, 6], [5, 24], [7, 40]], _POINTS, _SIZE),
        "without BatchNorm": lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 1, 1)),
    }
    with torch_stream(0):
        return _filled(builders.get(request.param, lambda: build_source(request.param))())


def _kinds(network: nn.Module) -> set[str]:
    return {type(module).__name__ for module in network.modules()}


@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet18", "cloner", "without BatchNorm"], indirect=True)
def test_it_gives_the_same_in_fewer_calls(network):
    fused = Fused(network)
    with torch.no_grad():
        for count in (1, 3):
            _assert_same(fused(_images(count)), network(_images(count)))
    left = _kinds(*fused.copies.values())
    assert "_Convolution" in left
    assert not left & {"Conv2d", "Conv2dDynamicSamePadding", "BatchNorm2d", "ReLU6"}


@pytest.mark.parametrize("network", ["cloner"], indirect=True)
def test_it_goes_as_deep_as_is_asked(network):
    fused = Fused(network)
    with torch.no_grad():
        for depth in (1, 2, 1):
            _assert_same(fused(_images(1), depth), network(_images(1))[:depth])
    assert len(fused.copies) == 2
    assert not deepcopy(fused).copies


@pytest.mark.parametrize("network", ["efficientnet_lite0"], indirect=True)
def test_an_image_of_any_size_is_padded_as_before(network):
    fused = Fused(network)
    with torch.inference_mode():  # its tensors' versions are not counted
        for size in ((33, 47), (64, 50), (35, 66)):
            _assert_same(fused(_images(1, size)), network(_images(1, size)))


def test_a_student_that_takes_features_is_fused_too():
    with torch_stream(0):
        student = _filled(ReverseStudent(_POINTS))
        features = [torch.randn(2, point.channels, point.height, point.width) for point in _POINTS]
    with torch.no_grad():
        _assert_same(Fused(student)(features), student(features))


class _Twice(nn.Module):
    """Takes a convolution's output before and after its BatchNorm, or changes it in place between."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.convolution, self.norm, self.in_place = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), in_place

    def forward(self, images):
        x = self.convolution(images)
        if self.in_place:
            x += 1
        return [self.norm(x), x]


def test_what_is_taken_twice_or_changed_between_stays_as_it_was():
    with torch_stream(0):
        networks = [_filled(_Twice(in_place)) for in_place in (False, True)]
    kept, apart = (fuse(network, _images(1)) for network in networks)
    assert kept is networks[0]
    assert _kinds(apart) == {"_Twice", "_Convolution", "BatchNorm2d"}
    with torch.no_grad():
        _assert_same(apart(_images(2)), networks[1](_images(2)))


@pytest.mark.parametrize("network", ["cloner"], indirect=True)
def test_the_network_itself_answers_for_gradients_in_training_and_in_other_formats(network):
    fused = Fused(network)
    images = _images(2).requires_grad_()
    fused(images)[0].sum().backward()
    assert images.grad.abs().sum() > 0
    network.train()
    with torch.no_grad():
        fused(_images(2))
    assert not fused.copies
    assert for_predicting(network, choose_compute("cpu", "bfloat16")) is network
    assert isinstance(for_predicting(network, choose_compute("cpu", "float32")), Fused)
