"""The autoencoder: shapes of any image, and a bottleneck that everything passes."""

import pytest
import torch

from kdad.detectors.efficient_ad.autoencoder import DescriptorAutoencoder


@pytest.mark.parametrize(
    ("size", "grid"), [((256, 256), (64, 64)), ((34, 45), (9, 12)), ((17, 17), (5, 5)), ((32, 300), (8, 75))]
)
def test_descriptors_of_any_image_come_from_64_numbers(size, grid):
    network, seen = DescriptorAutoencoder(6, size, grid).eval(), []
    network.encoder.register_forward_hook(lambda module, given, vector: seen.append(tuple(vector.shape)))
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 6, *grid)
    assert seen == [(2, 64, 1, 1)]


def test_at_256_pixels_it_is_as_deep_as_the_published_one():
    convolutions = [
        layer for layer in DescriptorAutoencoder(6, (256, 256), (64, 64)).encoder if hasattr(layer, "weight")
    ]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64, 64, 64]
    assert convolutions[-1].kernel_size == (8, 8)
