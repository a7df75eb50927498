"""Sources cut into stages compute what the whole networks compute."""

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchvision.models import resnet18

from kdad.errors import InputError
from kdad.networks.architectures import build_source
from kdad.networks.weights import load_source

_IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _normalised(images, mean, sd):
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(sd).view(1, 3, 1, 1)


def _outputs_of(network, layers, images):
    """Run a whole network and catch what some of its layers put out."""
    caught = []
    handles = [layer.register_forward_hook(lambda *call: caught.append(call[-1])) for layer in layers]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return caught


@pytest.fixture
def images() -> torch.Tensor:
    """Two non-square images."""
    return torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_vgg16_stages_are_its_layers_up_to_each_pool(vgg16, images):
    x, pools = _normalised(images, *_IMAGENET), []
    with torch.no_grad():
        for stage in vgg16.stages.values():
            for layer in stage:
                x = layer(x)
                pools += [x] if isinstance(layer, nn.MaxPool2d) else []
        found = vgg16(images)
    assert vgg16.critical_points == ("pool2", "pool3", "pool4", "pool5")
    assert sum(len(stage) for stage in vgg16.stages.values()) == 31  # all of torchvision's features
    for activation, expected in zip(found, pools[1:], strict=True):
        assert torch.equal(activation, expected)


def test_resnet18_stages_agree_with_torchvision(tmp_path, images):
    whole = resnet18(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    source = load_source("resnet18", str(tmp_path / "resnet18.pth"))
    layers = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == ("layer1", "layer2", "layer3", "layer4")
    for activation, expected in zip(found, _outputs_of(whole, layers, _normalised(images, *_IMAGENET)), strict=True):
        torch.testing.assert_close(activation, expected)


@pytest.mark.parametrize(
    ("size", "blocks", "channels"),
    [
        (0, (2, 4, 10, 15), (24, 40, 112, 320)),
        (1, (3, 6, 14, 20), (24, 40, 112, 320)),
        (2, (3, 6, 14, 20), (24, 48, 120, 352)),
    ],
)
def test_efficientnet_lite_stages_agree_with_their_package(tmp_path, images, size, blocks, channels):
    whole = EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None).eval()
    torch.save(whole.state_dict(), tmp_path / "lite.pth")
    source = load_source(f"efficientnet_lite{size}", str(tmp_path / "lite.pth"))
    layers = [whole._blocks[index] for index in blocks]
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == tuple(f"block{index}" for index in blocks)
    sides = [(16, 12), (8, 6), (4, 3), (2, 2)]
    assert [tuple(activation.shape[1:]) for activation in found] == [
        (count, *side) for count, side in zip(channels, sides, strict=True)
    ]
    for activation, expected in zip(found, _outputs_of(whole, layers, 2 * images - 1), strict=True):
        torch.testing.assert_close(activation, expected)


def test_timm_stages_agree_with_timm(tmp_path, images):
    whole = timm.create_model("test_resnet", pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet.pth")
    source = load_source("timm:test_resnet", str(tmp_path / "resnet.pth"))
    layers = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
    config = whole.default_cfg
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == ("stage1", "stage2", "stage3", "stage4")
    expected_maps = _outputs_of(whole, layers, _normalised(images, config["mean"], config["std"]))
    for activation, expected in zip(found, expected_maps, strict=True):
        torch.testing.assert_close(activation, expected)


def test_timm_critical_points_can_be_chosen(images):
    source = build_source("timm:test_resnet").eval()
    everything = dict(zip(source.critical_points, source(images), strict=True))
    source.select(["stage3", "stage1"])
    assert source.critical_points == ("stage1", "stage3")
    for name, activation in zip(source.critical_points, source(images), strict=True):
        assert torch.equal(activation, everything[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg19", "unknown source 'vgg19'; did you mean 'vgg16'"),
        ("efficientnet_lite", "did you mean 'efficientnet_lite[012]'"),
        (
            "alexnet",
            "unknown source 'alexnet'.*known: efficientnet_lite0, .*_lite1, .*_lite2, resnet18, timm:<name>, vgg16",
        ),
        ("timm:resnet10tt", "timm cannot build 'resnet10tt' as a source; did you mean 'resnet10t'"),
    ],
)
def test_an_unknown_source_is_an_input_error_that_offers_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        build_source(name)
