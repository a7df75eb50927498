import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.features.storage import Storage

_VALUES = torch.tensor([0.0, 1.0, -2.5, 3.14159265, 1e-3, 60000.0]).reshape(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("outputs", "type_", "bits"), [("float32", np.float32, 24), ("float16", np.float16, 11), ("bfloat16", np.uint16, 8)]
)
def test_outputs_come_back_to_the_bits_of_their_format(outputs, type_, bits):
    storage = Storage(outputs)
    kept = storage.write_outputs(_VALUES, "pool2")
    assert kept.dtype == type_ == storage.types[0]
    found = storage.read_outputs(kept)
    assert found.dtype == torch.float32
    # Rounding to b significant bits is off by half of 2^(1 - b) at the most.
    assert torch.allclose(found, _VALUES, rtol=2.0**-bits, atol=1e-12)
    assert torch.equal(found, _VALUES) == (outputs == "float32")


def test_what_float16_cannot_hold_names_the_point_and_the_other_format():
    with pytest.raises(InputError, match=r"activations of pool3.*largest is 7e\+04.*features.outputs_on_disk=bfloat16"):
        Storage("float16").write_outputs(torch.tensor([70000.0]), "pool3")
    assert (
        Storage("bfloat16").read_outputs(Storage("bfloat16").write_outputs(torch.tensor([65536.0]), "pool3")) == 65536
    )


@pytest.mark.parametrize(("images", "bound"), [("float32", 0.0), ("float16", 2.0**-11), ("uint8", 0.5 / 255)])
def test_images_come_back_within_a_rounding(images, bound):
    given = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    storage = Storage(images=images)
    found = storage.read_images(storage.write_images(given))
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - given).max() <= bound + 1e-7
    exact = np.array([0, 17, 128, 255], np.float32) / 255  # grey values of 8 bits
    again = storage.read_images(storage.write_images(exact)).numpy()
    assert np.allclose(again, exact, rtol=0, atol=bound if images == "float16" else 1e-7)


def test_a_cache_as_before_is_named_as_before():
    assert Storage().named() == {}
    assert Storage("auto", "uint8").named() == {"storage": {"outputs": "auto", "images": "uint8"}}


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"dtype": "float32"}, ("float32", "float32")),
        ({"dtype": "bfloat16"}, ("bfloat16", "float32")),
        ({"dtype": "bfloat16", "storage": {"outputs": "auto", "images": "uint8"}}, ("bfloat16", "uint8")),
        ({"dtype": "bfloat16", "storage": {"outputs": "float32", "images": "float16"}}, ("float32", "float16")),
    ],
)
def test_the_format_of_a_cache_is_that_of_its_manifest(manifest, expected):
    found = Storage.of(manifest)
    assert (found.outputs, found.images) == expected
