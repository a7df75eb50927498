"""A patch network sees exactly its patch, and its dense form is the patch network at every pixel."""

from functools import cache

import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.networks.patch_descriptor import LAYERS, PatchDescriptor, StudentEnsemble, pad_for, receptive_field

_PATCH_SIZES = [17, 33, 65]


@cache
def _descriptor(patch_size: int) -> PatchDescriptor:
    """A narrow descriptor whose outputs are of the order of one."""
    torch.manual_seed(patch_size)
    descriptor = PatchDescriptor(patch_size, depth=8, width=0.125)
    for name, parameter in descriptor.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)
        else:
            torch.nn.init.normal_(parameter)
    return descriptor.requires_grad_(False)


def _images(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@cache
def _described_patch_by_patch(patch_size: int, height: int, width: int) -> torch.Tensor:
    """Mirror with NumPy, cut the patch around each pixel, and describe each as an image of its own."""
    radius = patch_size // 2
    image = _images(height, width)[0].numpy()
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (patch_size, patch_size), axis=(1, 2))
    assert windows.shape == (3, height, width, patch_size, patch_size)
    rows = [torch.from_numpy(windows[:, row].swapaxes(0, 1).copy()) for row in range(height)]
    return torch.stack([_descriptor(patch_size)(patches) for patches in rows]).permute(2, 0, 1)


def _sizes(patch_size: int) -> list[tuple[int, int]]:
    """The smallest size, a patch's height with an even width, and an even height with an odd width."""
    half = patch_size // 2
    return [(half + 1, half + 1), (patch_size, patch_size + 1), (patch_size + 5, patch_size + 16)]


_CASES = [(patch_size, size) for patch_size in _PATCH_SIZES for size in _sizes(patch_size)]


@pytest.mark.parametrize("patch_size", _PATCH_SIZES)
def test_layers_see_exactly_their_patch(patch_size):
    assert receptive_field(LAYERS[patch_size]) == patch_size


@pytest.mark.parametrize("patch_size", _PATCH_SIZES)
def test_the_gradient_of_one_descriptor_touches_exactly_its_patch(patch_size):
    side, middle, radius = patch_size + 10, (patch_size + 10) // 2, patch_size // 2
    images = _images(side, side, count=16).requires_grad_()
    _descriptor(patch_size).dense(images)[:, :, middle, middle].sum().backward()
    touched = (images.grad != 0).any(dim=0).any(dim=0)
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[middle - radius : middle + radius + 1, middle - radius : middle + radius + 1] = True
    assert torch.equal(touched, expected)


@pytest.mark.parametrize("patch_size", _PATCH_SIZES)
def test_the_patch_network_uses_all_borders_of_its_patch(patch_size):
    patches = _images(patch_size, patch_size, count=16).requires_grad_()
    found = _descriptor(patch_size)(patches)
    assert found.shape == (16, 8)
    found.sum().backward()
    touched = (patches.grad != 0).any(dim=0).any(dim=0)
    for border in (touched[0], touched[-1], touched[:, 0], touched[:, -1]):
        assert border.all()


@pytest.mark.sample(3)
@pytest.mark.parametrize(("patch_size", "size"), _CASES)
def test_dense_equals_the_patch_network_at_every_pixel(patch_size, size):
    expected = _described_patch_by_patch(patch_size, *size)
    found = _descriptor(patch_size).dense(_images(*size))[0]
    assert found.shape == (8, *size)
    assert (expected.std(dim=(1, 2)) > 0.01).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.sample(6)
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("patch_size", "size"), _CASES)
def test_a_stride_gives_every_second_or_fourth_pixel(patch_size, size, stride):
    expected = _described_patch_by_patch(patch_size, *size)[:, ::stride, ::stride]
    found = _descriptor(patch_size).dense(_images(*size), stride)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_images_of_a_batch_are_described_alone(stride):
    images = _images(40, 35, count=2)
    together = _descriptor(33).dense(images, stride)
    assert not torch.allclose(together[0], together[1], atol=0.01)
    for image, found in zip(images, together, strict=True):
        torch.testing.assert_close(_descriptor(33).dense(image[None], stride)[0], found, rtol=1e-5, atol=1e-5)


def test_borders_are_mirrored_without_repeating_the_outermost_pixel():
    ramp = torch.arange(18.0).expand(1, 3, 17, 18)
    row = pad_for(ramp, 17)[0, 0, 0].tolist()
    assert row == [*range(8, 0, -1), *range(18), *range(16, 8, -1)]
    # The last column asked for is 16: its patch ends 8 columns later, at the mirror image of column 10.
    assert pad_for(ramp, 17, 4)[0, 0, 0].tolist() == row[:33]


@pytest.mark.parametrize("patch_size", _PATCH_SIZES)
@pytest.mark.parametrize("short", ["height", "width"])
def test_images_that_cannot_be_mirrored_to_a_patch_are_refused(patch_size, short):
    half = patch_size // 2
    size = (half, 80) if short == "height" else (80, half)
    message = rf"images of {size[0]} x {size[1]} .* receptive field {patch_size}, which needs {half + 1} a side"
    with pytest.raises(InputError, match=message):
        _descriptor(patch_size).dense(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("stride", [0, -1, 3, 8])
def test_other_strides_are_refused(stride):
    with pytest.raises(InputError, match=f"stride is {stride}; it must be 1, 2 or 4"):
        _descriptor(17).dense(torch.zeros(1, 3, 20, 20), stride)


def test_other_receptive_fields_are_refused():
    with pytest.raises(InputError, match="receptive field 16 is unknown; choose from 17, 33, 65"):
        PatchDescriptor(16)


@pytest.mark.parametrize(("depth", "width"), [(0, 1.0), (-1, 1.0), (8, 0.0), (8, -0.5)])
def test_depth_and_width_must_be_positive(depth, width):
    with pytest.raises(InputError, match=f"depth is {depth} and width {width}; both must be positive"):
        PatchDescriptor(17, depth, width)


@pytest.mark.parametrize("size", [(16, 17), (17, 18), (33, 33)])
def test_patches_of_another_size_are_refused(size):
    with pytest.raises(InputError, match=f"patches are {size[0]} x {size[1]}, .* 17 pixels"):
        _descriptor(17)(torch.zeros(1, 3, *size))


def _ensemble(members: int, seed: int = 0) -> StudentEnsemble:
    return StudentEnsemble(members, 17, depth=4, width=0.1, seed=seed)


def test_a_member_starts_the_same_in_an_ensemble_of_any_size():
    few, many = _ensemble(2), _ensemble(4)
    for first, second in zip(few.members, list(many.members)[:2], strict=True):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[name])


def test_members_and_seeds_differ_and_no_parameter_is_shared():
    networks = [*_ensemble(3).members, *_ensemble(1, seed=1).members]
    for parameters in zip(*(network.parameters() for network in networks), strict=True):
        assert len({tuple(parameter.flatten().tolist()) for parameter in parameters}) == 4
    storages = [parameter.data_ptr() for network in networks for parameter in network.parameters()]
    assert len(set(storages)) == len(storages)


def test_an_ensemble_stacks_its_members_descriptors():
    ensemble, images = _ensemble(3), _images(19, 22, count=2)
    found = ensemble.dense(images, 2)
    assert found.shape == (2, 3, 4, 10, 11)
    for index, member in enumerate(ensemble.members):
        assert torch.equal(found[:, index], member.dense(images, 2))
