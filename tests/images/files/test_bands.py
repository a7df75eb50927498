"""Files of arrays and of many bands."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.decoding import decode_image, decode_raw, read_size
from kdad.images.files.file_facts import kind_by_header
from kdad.images.files.mask_files import read_mask
from kdad.images.files.value_range import kind_of
from kdad.parameters.dataset import DatasetParameters
from layout_trees import open_set

CUBE = np.random.default_rng(0).integers(0, 256, (8, 9, 6), dtype=np.uint8)


def as_tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)
    return path


def test_bands_are_taken_in_their_order_from_tiff_and_npy(tmp_path):
    np.save(tmp_path / "a.npy", CUBE)
    as_tiff(tmp_path / "b.tif", CUBE, photometric="minisblack", planarconfig="contig")
    as_tiff(tmp_path / "c.tif", np.moveaxis(CUBE, -1, 0), photometric="minisblack", planarconfig="separate")
    as_tiff(tmp_path / "d.tif", CUBE.astype(np.uint16) * 257, photometric="minisblack", planarconfig="contig")
    for name in ("a.npy", "b.tif", "c.tif", "d.tif"):
        path = tmp_path / name
        assert read_size(path) == (8, 9)
        assert kind_by_header(path) == ("integer" if name == "d.tif" else "8-bit")
        for bands in ((0, 1, 3), (5, 2, 2), (4, 4, 4)):
            expected = CUBE[..., list(bands)].transpose(2, 0, 1) / 255
            np.testing.assert_allclose(decode_image(path, bands=bands), expected, atol=1e-6)
        np.testing.assert_allclose(decode_image(path, bands=(4,)), np.stack(3 * [CUBE[..., 4] / 255]), atol=1e-6)
        with pytest.raises(
            InputError, match=r"has 6 bands; say which one or three are taken.*dataset\.bands=\[0, 1, 2\]"
        ):
            decode_image(path)
        with pytest.raises(InputError, match=r"has 6 bands, and dataset\.bands asks for number 6, counted from 0"):
            decode_image(path, bands=(6,))


def test_two_bands_and_a_fourth_that_is_no_alpha_are_not_dropped(tmp_path):
    two = as_tiff(tmp_path / "two.tif", CUBE[..., :2], photometric="minisblack", planarconfig="contig")
    four = as_tiff(tmp_path / "four.tif", CUBE[..., :4], photometric="rgb", extrasamples=["unspecified"])
    alpha = CUBE[..., :4].copy()
    alpha[..., 3] = 255
    rgba = as_tiff(tmp_path / "rgba.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    for path, count in ((two, 2), (four, 4)):
        with pytest.raises(InputError, match=rf"has {count} bands; say which"):
            decode_image(path)
    np.testing.assert_array_equal(decode_raw(rgba).pixels, CUBE[..., :3])


def test_bands_of_pictures_are_chosen_too(tmp_path):
    Image.fromarray(CUBE[..., :3]).save(tmp_path / "a.png")
    expected = CUBE[..., [2, 1, 0]].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(decode_image(tmp_path / "a.png", bands=(2, 1, 0)), expected, atol=1e-6)


def test_arrays_of_every_type_that_is_an_image(tmp_path):
    ramp = np.arange(20).reshape(4, 5)
    for dtype, kind in ((bool, "8-bit"), (np.int8, "integer"), (np.uint16, "integer"), (np.float64, "float")):
        np.save(tmp_path / "a.npy", ramp.astype(dtype))
        raw = decode_raw(tmp_path / "a.npy")
        assert raw.pixels.shape[:2] == (4, 5)
        assert kind_of(raw.pixels) == kind
    np.save(tmp_path / "a.npy", ramp[..., None])
    assert decode_raw(tmp_path / "a.npy").pixels.shape == (4, 5)
    mask = ramp > 7
    np.save(tmp_path / "a.npy", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy", "dark"), ~mask)


def test_arrays_that_are_no_images_are_named(tmp_path):
    path = tmp_path / "a.npy"
    for values in (np.zeros(4), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((3, 3), complex), np.array([["a"]])):
        np.save(path, values)
        with pytest.raises(InputError, match=r"a\.npy: holds an array of shape .* which is no image"):
            decode_image(path)
    np.save(path, np.array([[None]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: (cannot be read|holds an array)"):
        decode_image(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an image"):
        decode_image(path)
    values = np.zeros((2, 2, 3), np.float32)
    values[1, 0, 2] = np.nan
    np.save(path, values)
    with pytest.raises(InputError, match=r"1 of its 12 pixels are NaN or infinite, the first at row 1, column 0"):
        decode_image(path)


def test_a_set_of_many_bands(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(4):
        np.save(tmp_path / f"good/{number}.npy", np.roll(CUBE, number))
    with pytest.raises(InputError, match=r"dataset\.bands"):
        check_images(open_set(tmp_path))
    images = open_set(tmp_path, bands=[0, 1, 3], image_size=[8, 9])
    check_images(images)
    rolled = np.roll(CUBE, int(images.samples[0].id[5]))
    np.testing.assert_allclose(images.image(0), rolled[..., [0, 1, 3]].transpose(2, 0, 1) / 255, atol=1e-6)
    assert images.preparation.bands == (0, 1, 3)
    for wrong in ([0, 1], [-1], []):
        with pytest.raises(ValueError, match=r"bands are one number or three"):
            DatasetParameters(name="folder", root="x", image_size=16, bands=wrong)
    with pytest.raises(ValueError, match="bands does not go with textures"):
        DatasetParameters(name="textures", category="brick", image_size=16, bands=[0])
