"""Masks of every kind of file, and what is unusual about them."""

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.mask_files import describe_mask, marks_anything, read_mask, read_masks
from layout_trees import SHAPE, numbered, open_set, write_all, write_mask


def save(pixels, path, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


@pytest.mark.parametrize(
    "pixels",
    [
        np.uint8([[0, 1, 255]]),
        np.uint8([[0, 1, 1]]),
        np.uint16([[0, 1, 65535]]),
        np.float32([[0, 0.5, 1]]),
        np.uint8([[[0, 0, 0], [0, 0, 1], [9, 0, 0]]]),
        np.array([[False, True, True]]),
        np.uint8([[[0, 0, 0, 255], [9, 9, 9, 0], [1, 0, 0, 255]]]),
        # Of one colour: the shape is in the transparency.
        np.uint8([[[255, 255, 255, 0], [255, 255, 255, 255], [255, 255, 255, 200]]]),
        np.uint8([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 255]]]),
    ],
    ids=["8 bits", "0 and 1", "16 bits", "float", "rgb", "1 bit", "rgba by colour", "white by alpha", "black by alpha"],
)
def test_anomalous_is_what_is_not_zero_or_not_transparent(tmp_path, pixels):
    ending = "tif" if pixels.dtype == np.float32 else "png"
    mask = read_mask(save(pixels, tmp_path / f"mask.{ending}"))
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True, True]]
    assert read_mask(tmp_path / f"mask.{ending}", "dark").tolist() == [[True, False, False]]


@pytest.mark.parametrize(("alpha", "expected"), [(255, True), (0, False)])
def test_a_mask_of_one_colour_and_one_transparency(tmp_path, alpha, expected):
    white, black = np.full((2, 2, 4), [255, 255, 255, alpha]), np.full((2, 2, 4), [0, 0, 0, alpha])
    assert read_mask(save(white.astype(np.uint8), tmp_path / "white.png")).all() == expected
    assert not read_mask(save(black.astype(np.uint8), tmp_path / "black.png")).any()


def test_a_jpeg_is_cut_in_the_middle_of_its_noise(tmp_path):
    drawn = np.zeros((32, 32), dtype=np.uint8)
    drawn[5:12, 6:20] = 255
    path = save(drawn, tmp_path / "mask.jpg", quality=50)
    assert (np.asarray(Image.open(path)) != 0).sum() > (drawn != 0).sum()  # noise that is no mark
    np.testing.assert_array_equal(read_mask(path), drawn != 0)
    # The same pixels in another file are a drawing in grey, too.
    again = save(np.asarray(Image.open(path)), tmp_path / "again.png")
    np.testing.assert_array_equal(read_mask(again), drawn != 0)


def test_a_jpeg_of_0_and_1_is_told_to_be_lost(tmp_path):
    drawn = np.zeros((32, 32), dtype=np.uint8)
    drawn[:16] = 1
    with pytest.raises(InputError, match=r"mask\.jpg: is a JPEG whose brightest pixel is 1 of 255.*save masks as PNG"):
        read_mask(save(drawn, tmp_path / "mask.jpg"))
    assert not read_mask(save(np.zeros((32, 32), np.uint8), tmp_path / "empty.jpg")).any()


def test_a_mask_is_turned_upright_as_its_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    path = save(np.uint8([[255, 0, 0], [0, 0, 0]]), tmp_path / "a.png", exif=exif)
    assert read_mask(path).astype(int).tolist() == [[0, 1], [0, 0], [0, 0]]


def test_a_mask_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no mask")
    for read in (read_mask, marks_anything):
        with pytest.raises(InputError, match=r"bad\.png: cannot be read as an image"):
            read(tmp_path / "bad.png")
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        marks_anything(tmp_path / "gone.png")


def test_masks_of_one_image_have_one_size(tmp_path):
    first = save(np.uint8([[0, 1], [0, 0]]), tmp_path / "1.png")
    second = save(np.uint8([[0, 0], [1, 0]]), tmp_path / "2.png")
    assert read_masks([first, second]).astype(int).tolist() == [[0, 1], [1, 0]]
    other = save(np.uint8([[0, 0, 1]]), tmp_path / "3.png")
    with pytest.raises(InputError, match=r"3\.png: is 1 x 3, and 1\.png of the same image 2 x 2"):
        read_masks([first, other])


def test_facts_of_a_mask():
    mask = np.ones((4, 4), dtype=bool)
    mask[1:3, 1] = False
    facts = describe_mask(mask, np.zeros((2, 2), dtype=bool))
    assert (facts.share, facts.resized_share, facts.looks_inverted) == (14 / 16, 0, True)
    mask[0, 0] = False
    assert not describe_mask(mask, mask).looks_inverted
    assert not describe_mask(np.ones((4, 4), dtype=bool), mask).looks_inverted


@pytest.fixture
def base(tmp_path):
    """Three images to train on, one good image and two spots to test."""
    write_all(tmp_path, *numbered("train/good", 3), *numbered("test/good", 1), *numbered("test/spot", 2))
    return tmp_path


def test_inverted_masks_are_asked_about_and_either_answer_is_taken(base):
    for number in range(2):
        write_mask(base / f"ground_truth/spot/{number:03d}_mask.png", value=0, background=255)
    with pytest.raises(InputError, match=r"this and 1 more of 2 masks mark 97%.*anomalous_in_masks=dark") as caught:
        check_images(open_set(base))
    assert "spot/000_mask.png" in str(caught.value)
    pixels = SHAPE[0] * SHAPE[1]
    for answer, expected in (("dark", 4 * 5), ("bright", pixels - 4 * 5)):
        images = open_set(base, layout={"anomalous_in_masks": answer})
        check_images(images)
        assert images.own_mask(4).sum() == expected


def test_unusual_masks_are_counted_with_their_reasons(base):
    write_all(base, *numbered("test/spot", 6))
    write_mask(base / "ground_truth/spot/000_mask.png", slice(0, 0))  # empty
    tiny = np.zeros(SHAPE, dtype=np.uint8)
    tiny[2, 0] = 255  # at 16 x 16 the rows taken are 0, 1, 3, 4, ...: row r is int((r + 0.5) * 20 / 16)
    save(tiny, base / "ground_truth/spot/001_mask.png")
    write_mask(base / "ground_truth/spot/002_mask.png", slice(0, 20), background=255)  # the whole image
    write_mask(base / "ground_truth/spot/003_mask.png")
    write_mask(base / "ground_truth/spot/003_mask_1.png", slice(10, 12))
    images = open_set(base)
    check_images(images)
    assert dict(images.remarks())["masks"].split("; ") == [
        "matched for 4 of 6 anomalous images",
        "1 of several files",
        "1 empty in their files, so that their images are left out of pixel metrics",
        "1 that vanish at the model's size",
        "1 of the whole image",
        "2 have none, and are left out of pixel metrics",
    ]
