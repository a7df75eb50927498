"""A frozen network is loaded when it is needed, once, and known without where its weights lie."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from kdad.compute import Compute
from kdad.features.network import FrozenNetwork, NetworkReference

_CPU = torch.device("cpu")
_opened: list[str] = []


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 1).requires_grad_(False)

    def forward(self, images):
        return [self.convolution(images), 2 * images]


class _Reference(NetworkReference):
    weights: str = "here"
    width: int = 2

    def open(self):
        _opened.append(self.fingerprint)
        torch.manual_seed(0)
        return _Twice()


@pytest.fixture
def opened() -> list[str]:
    """The fingerprints of the networks that were opened."""
    _opened.clear()
    return _opened


def test_the_network_is_loaded_at_the_first_output_and_once(opened):
    network = FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, torch.float32))
    assert opened == []
    images = torch.rand(2, 3, 4, 5)
    for _ in range(2):
        first, second = network.outputs(images)
    assert opened == ["a"]
    torch.testing.assert_close(first, network.module.convolution(images))
    assert torch.equal(second, 2 * images)


def test_outputs_are_float32_whatever_the_machine_multiplies():
    images = torch.rand(1, 3, 4, 4)
    full, half = (
        FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, dtype)).outputs(images)[0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (full.dtype, half.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(full, half)
    assert torch.equal(half, half.bfloat16().float())


def test_gradients_reach_the_images_where_they_are_asked_for():
    network = FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, torch.float32))
    images = torch.rand(1, 3, 2, 2, requires_grad=True)
    network.outputs(images)[1].sum().backward()
    assert torch.equal(images.grad, torch.full((1, 3, 2, 2), 2.0))
    assert not any(found.requires_grad for found in network.outputs(images.detach()))


def test_the_identity_is_everything_but_where_the_weights_lie():
    reference = _Reference(fingerprint="a", weights="/somewhere/file.pth")
    assert reference.identity == {"fingerprint": "a", "width": 2}
    assert reference.identity == reference.model_copy(update={"weights": "elsewhere"}).identity
    assert reference.identity != reference.model_copy(update={"width": 3}).identity


def test_weights_that_can_be_found_again_are_not_copied(tmp_path):
    class Named(_Reference):
        in_a_file: ClassVar[bool] = False

    reference = Named(fingerprint="a")
    assert reference.keep(tmp_path, "source") is reference
    assert reference.within(Path("anywhere")) is reference
    assert list(tmp_path.iterdir()) == []


def test_a_reference_has_no_unknown_fields():
    with pytest.raises(ValidationError):
        _Reference(fingerprint="a", size=3)
