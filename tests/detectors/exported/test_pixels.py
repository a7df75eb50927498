import numpy as np
import pytest
import torch

from kdad.detectors.exported.pixels import Pixels, resize_matrices
from kdad.errors import InputError
from kdad.images.files.decoding import read_image
from kdad.images.files.fitting import Preparation, fit_image
from kdad.images.files.value_range import ValueRange

SIZES = [(32, 48), (33, 47), (200, 150), (10, 7), (1, 90), (64, 96), (501, 32)]


@pytest.mark.parametrize("fit", ["resize", "letterbox", "centre_crop"])
@pytest.mark.parametrize("own", SIZES)
def test_pixels_become_what_the_detector_would_be_given(own, fit):
    image = np.random.default_rng(1).integers(0, 256, (*own, 3), dtype=np.uint8)
    expected = fit_image(read_image(image), (32, 48), fit)
    found = Pixels((32, 48), Preparation(fit))(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = np.random.default_rng(2).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    found = Pixels((32, 48), Preparation())(torch.from_numpy(image))
    assert torch.equal(found, torch.from_numpy(image).permute(0, 3, 1, 2) / 255)


def test_matrices_by_hand():
    down, across = resize_matrices(4, 1, (2, 2), "resize")
    # Triangles of half-width 2 around 1 and 3: pixels at 0.5 and 1.5 weigh 0.75, the one at 2.5 weighs 0.25.
    np.testing.assert_allclose(down, np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7, atol=1e-7)
    assert across.tolist() == [[1.0], [1.0]]


def test_values_are_scaled_as_the_detectors_files_are():
    values = ValueRange(kind="8-bit", low=20, high=70)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = Pixels((16, 16), Preparation(values=values))(torch.from_numpy(image)[None, ..., None].expand(-1, -1, -1, 3))
    np.testing.assert_allclose(found[0], read_image(image, values), atol=1e-7)


def test_wider_values_than_a_byte_are_refused():
    with pytest.raises(InputError, match=r"of the kind 'integer'.*own folder"):
        Pixels((8, 8), Preparation(values=ValueRange(kind="integer", low=0, high=4095)))
