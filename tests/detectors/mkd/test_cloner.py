"""The cloner's architecture: weights, layers and shapes."""

import pytest
import torch
from torch import nn

from kdad.detectors.mkd.cloner import Cloner, _block, build_cloner, small_widths
from kdad.detectors.mkd.parameters import ArchitectureParameters
from kdad.errors import InputError
from kdad.networks.source import CriticalPoint

_PLAIN = ([0.0] * 3, [1.0] * 3)
_SIZES = [(32, 32), (64, 96), (33, 33), (65, 65), (47, 70), (101, 67)]


def _build(size_name, source_name, source, size, normalisation=_PLAIN, **parameters):
    architecture = ArchitectureParameters(size=size_name, **parameters)
    return build_cloner(architecture, source_name, source.describe(size), size, normalisation)


def _convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def _tensors(network):
    return [*network.parameters(), *network.buffers()]


@pytest.mark.parametrize(("size_name", "expected"), [("small", 343_728), ("equal", 14_710_464)])
def test_vgg16_cloners_have_the_published_number_of_convolution_weights(vgg16, size_name, expected):
    cloner = _build(size_name, "vgg16", vgg16, (32, 32))
    assert sum(layer.weight.numel() for layer in _convolutions(cloner)) == expected


def test_small_widths_are_the_published_ones(vgg16):
    expected = [[16, 16], [16, 128], [16, 16, 256], [16, 16, 512], [16, 16, 512]]
    assert small_widths(vgg16.describe((128, 128)), (128, 128)) == expected
    assert small_widths(vgg16.describe((32, 32)), (32, 32), hidden=4)[2] == [4, 4, 256]


@pytest.mark.sample(20)
@pytest.mark.parametrize("size", _SIZES, ids=str)
@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_cloner_has_the_sources_shapes_at_every_critical_point(source_name, source, size_name, size):
    step = 16 if source_name == "timm:test_vit" else 1  # a transformer's patch
    size = tuple(side // step * step for side in size)
    images = torch.rand(1, 3, *size)
    cloner = _build(size_name, source_name, source, size).eval()
    with torch.no_grad():
        found = [tuple(activation.shape) for activation in cloner(images)]
        assert found == [tuple(activation.shape) for activation in source(images)]
    assert len(found) == 4


def test_source_and_cloner_share_no_storage(source_name, source):
    own = {tensor.untyped_storage().data_ptr() for tensor in _tensors(source)}
    for size_name in ("small", "equal"):
        cloner = _build(size_name, source_name, source, (32, 32))
        assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in _tensors(cloner))
        assert all(parameter.requires_grad for parameter in cloner.parameters())


@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_blocks_are_convolutions_with_batch_norm_and_relu_but_the_last_has_relu_only(vgg16, size_name):
    cloner = _build(size_name, "vgg16", vgg16, (32, 32))
    assert all(layer.bias is None and layer.kernel_size == (3, 3) for layer in _convolutions(cloner))
    for block in cloner.blocks:
        count = len(_convolutions(block))
        inner = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * (count - 1)
        assert [type(layer) for layer in block] == [*inner, nn.Conv2d, nn.MaxPool2d, nn.ReLU]


def test_no_relu_ends_a_block_whose_target_can_be_negative():
    points = [CriticalPoint("low", 8, 16, 16, signed=True), CriticalPoint("high", 8, 8, 8, signed=False)]
    cloner = Cloner([[4, 8], [4, 8]], points, (32, 32)).eval()
    assert [type(layer) for layer in cloner.blocks[0]][-2:] == [nn.Conv2d, nn.MaxPool2d]
    with torch.no_grad():
        low, high = cloner(torch.rand(2, 3, 32, 32))
    assert low.min() < 0
    assert high.min() >= 0


def test_convolutions_are_xavier_initialised(vgg16):
    for layer in _convolutions(_build("small", "vgg16", vgg16, (32, 32))):
        # Glorot and Bengio 2010, eq. 16: uniform up to sqrt(6 / (fan_in + fan_out)), fans counted over the kernel
        bound = (6 / (9 * (layer.in_channels + layer.out_channels))) ** 0.5
        largest = layer.weight.abs().max().item()
        assert 0.9 * bound < largest <= bound


def test_rounding_may_change_from_point_to_point():
    # 33 -> 17 -> 9 up (padded strides), then 9 -> 4 -> 2 -> 1 down (pools), as in a DenseNet
    sides = {"low": 9, "middle": 4, "high": 2, "top": 1}
    points = [CriticalPoint(name, 8, side, side, signed=False) for name, side in sides.items()]
    cloner = Cloner(small_widths(points, (33, 33), 4), points, (33, 33)).eval()
    assert [activation.shape[-1] for activation in cloner(torch.rand(1, 3, 33, 33))] == [9, 4, 2, 1]


def test_points_of_one_resolution_have_no_pool_between_them():
    points = [CriticalPoint("low", 8, 16, 16, signed=False), CriticalPoint("high", 12, 16, 16, signed=False)]
    cloner = Cloner([[4, 8], [4, 12]], points, (32, 32)).eval()
    assert [tuple(activation.shape) for activation in cloner(torch.rand(1, 3, 32, 32))] == [
        (1, 8, 16, 16),
        (1, 12, 16, 16),
    ]


def test_images_are_resampled_where_halving_them_does_not_reach_a_transformers_grid():
    # 224 and 126 pixels in patches of 14 are 16 and 9 patches; of 16 pixels each they are 256 and 144.
    points = [CriticalPoint(f"block{index}", 8, 16, 9, signed=True) for index in range(2)]
    cloner = Cloner(small_widths(points, (224, 126), 4), points, (224, 126)).eval()
    images = torch.rand(1, 3, 224, 126)
    resampled = nn.functional.interpolate(images, (256, 144), mode="bilinear")
    with torch.no_grad():
        found = cloner(images)
        assert [tuple(activation.shape) for activation in found] == [(1, 8, 16, 9)] * 2
        assert all(torch.equal(*pair) for pair in zip(found, cloner(resampled), strict=True))
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in cloner.modules()) == 4


def test_a_resolution_that_halving_cannot_reach_is_an_input_error():
    points = [CriticalPoint(name, 8, side, side, signed=False) for name, side in {"low": 16, "high": 6}.items()]
    with pytest.raises(InputError, match=r"'high' is 6 x 6 for images of 64 x 64.*multiple of 32"):
        small_widths(points, (64, 64))


def test_fewer_critical_points_give_a_shorter_cloner():
    points = [CriticalPoint("pool2", 128, 8, 8, signed=False), CriticalPoint("pool3", 256, 4, 4, signed=False)]
    cloner = build_cloner(ArchitectureParameters(size="equal"), "vgg16", points, (32, 32), _PLAIN)
    assert [layer.out_channels for layer in _convolutions(cloner)] == [64, 64, 128, 128, 256, 256, 256]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([[16, 128]], "has 1 blocks; these critical points need 2"),
        ([[16], [16, 64]], r"block 2 is \[16, 64\]; it needs a last width of 128 \('pool2'\)"),
        ([[], [16, 128]], r"block 1 is \[\]; it needs at least one width"),
    ],
)
def test_widths_that_do_not_fit_are_an_error(widths, message):
    with pytest.raises(InputError, match=message):
        Cloner(widths, [CriticalPoint("pool2", 128, 8, 8, signed=False)], (32, 32))


@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_images_are_normalised_as_for_the_source(source_of, size_name):
    name = "timm:test_resnet"
    mean, sd = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    cloner = _build(size_name, name, source_of(name), (32, 32), (mean, sd)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = cloner(images)
        cloner.mean.zero_()
        cloner.sd.fill_(1)
        by_hand = cloner((images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(sd).view(1, 3, 1, 1))
        untouched = cloner(images)
    for activation, expected, without in zip(found, by_hand, untouched, strict=True):
        torch.testing.assert_close(activation, expected)
        assert not torch.equal(activation, without)


def test_a_relu_after_the_pool_gives_what_one_before_it_gives_and_its_gradients():
    block = _block(3, [4, 4], pools=True, ceil=False, signed=False)
    published = nn.Sequential(*block[:4], block[5], block[4])
    assert isinstance(published[4], nn.ReLU)
    images = torch.randn(2, 3, 8, 8)
    gradients = []
    for ordered in (block, published):
        given = images.clone().requires_grad_()
        shown = ordered(given)
        shown.square().sum().backward()
        gradients.append((shown.detach(), given.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])
