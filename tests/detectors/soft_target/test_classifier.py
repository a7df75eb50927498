import pytest
import torch

from kdad.detectors.soft_target.classifier import Classifier


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (32, 32)), (3, (13, 9))])
def test_images_of_any_size_become_logits(channels, size):
    assert Classifier(channels, 10, [4, 8, 6], 5)(torch.rand(2, channels, *size)).shape == (2, 10)


def test_images_are_centred_first():
    network = Classifier(1, 3, [4], 5).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(network.classify(images), network(2 * images - 1))
