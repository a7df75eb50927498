"""What a source promises, whichever network it is."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from kdad.errors import InputError
from kdad.networks.source import Source


class _Raising(nn.Module):
    def forward(self, _):
        raise AssertionError("a stage behind the last critical point was run")


@pytest.fixture
def pools() -> Source:
    """Three stages, each a 2 x 2 maximum."""
    return Source(OrderedDict((name, nn.MaxPool2d(2)) for name in ("low", "middle", "high")))


def test_critical_points_are_kept_in_the_networks_order(pools):
    assert pools.select(["high", "low"]).critical_points == ("low", "high")
    assert [activation.shape[-1] for activation in pools(torch.rand(1, 3, 16, 16))] == [8, 2]
    assert pools.select(None).critical_points == ("low", "middle", "high")


def test_unknown_critical_points_offer_the_nearest(pools):
    with pytest.raises(InputError, match=r"source\.critical_points: the source has no 'midle'; did you mean 'middle'"):
        pools.select(["low", "midle"])
    with pytest.raises(InputError, match=r"source\.critical_points is empty; choose from: low, middle, high"):
        pools.select([])


def test_stages_behind_the_last_critical_point_are_not_run():
    source = Source(OrderedDict(low=nn.MaxPool2d(2), high=_Raising())).select(["low"])
    assert len(source(torch.rand(1, 3, 8, 8))) == 1


def test_images_are_normalised_inside(pools):
    pools.select(["low"]).normalise_with([0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    found = pools(torch.ones(1, 3, 2, 2))[0].flatten()
    # (1 - 0.1) / 0.5, (1 - 0.2) / 0.25, (1 - 0.3) / 2
    assert found.tolist() == pytest.approx([1.8, 3.2, 0.35])


def test_a_frozen_source_does_not_learn(source):
    assert not source.training
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert not any(activation.requires_grad for activation in source(torch.rand(1, 3, 32, 32)))


def test_a_frozen_source_passes_gradients_to_the_image(source):
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(activation.float().sum() for activation in source(images)).backward()
    assert images.grad.abs().sum() > 0


def test_describe_measures_shapes_and_leaves_no_trace(source):
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    points = source.describe((64, 96))
    with torch.no_grad():
        found = source(torch.rand(1, 3, 64, 96))
    assert [(p.channels, p.height, p.width) for p in points] == [tuple(activation.shape[1:]) for activation in found]
    assert tuple(point.name for point in points) == source.critical_points
    assert not source.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.state_dict().items())


def test_describe_restores_training_mode():
    source = Source(OrderedDict(low=nn.Sequential(nn.BatchNorm2d(3)))).train()
    source.describe((8, 8))
    assert source.training
    assert source.stages["low"][0].num_batches_tracked.item() == 0


@pytest.mark.parametrize(("name", "signed"), [("vgg16", False), ("resnet18", False), ("efficientnet_lite0", True)])
def test_describe_says_whether_activations_can_be_negative(source_of, name, signed):
    assert {point.signed for point in source_of(name).describe((32, 32))} == {signed}


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (1, 1)])
def test_images_too_small_for_the_deepest_point_are_an_input_error(vgg16, size):
    message = f"dataset.image_size {size[0]} x {size[1]} is too small for the critical point 'pool5'"
    with pytest.raises(InputError, match=message):
        vgg16.describe(size)
