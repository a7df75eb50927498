"""Sets whose masks lie beside their images."""

import pytest

from kdad.errors import InputError
from kdad.images.checks.validation import check_images
from layout_trees import counted, masked, open_set, write, write_all, write_mask


def write_kolektor(base, defective=(3,)):
    """Write 10 parts of 5 boards, each image with a mask beside it, empty but for the defective ones."""
    for number in range(10):
        folder = base / f"kos{number // 2:02d}"
        write(folder / f"Part{number}.jpg", number)
        write_mask(folder / f"Part{number}_label.bmp", slice(2, 6) if number in defective else slice(0, 0))
    return base


def test_kolektor_is_labelled_by_its_masks(tmp_path):
    images = open_set(write_kolektor(tmp_path))
    check_images(images)
    # a fifth of the 9 good ones is kept for the test
    assert counted(images) == {("train", "good"): 7, ("test", "good"): 2, ("test", "defect"): 1}
    assert masked(images) == ["kos01/Part3.jpg"]
    assert "9 by 'an empty mask'" in dict(images.remarks())["taken as normal"]


def test_kolektor_2_has_parts_and_its_defective_training_images_are_not_used(tmp_path):
    for number in range(5):
        write(tmp_path / f"train/{number}.png", number)
        write_mask(tmp_path / f"train/{number}_GT.png", slice(2, 6) if number == 4 else slice(0, 0))
        write(tmp_path / f"test/{number}.png", 50 + number)
        write_mask(tmp_path / f"test/{number}_GT.png", slice(2, 6) if number == 0 else slice(0, 0))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 4, ("test", "good"): 4, ("test", "defect"): 1}
    expected = "1 x an anomalous image of the part train, where only normal ones are used, such as train/4.png"
    assert expected in dict(images.remarks())["not used"]


def test_masks_beside_images_in_folders_that_say_what_they_are(tmp_path):
    write_all(tmp_path, *(f"good/{number}.png" for number in range(5)), "bad/0.png", "bad/1.png")
    write_mask(tmp_path / "bad/0_mask.png")
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images)["test", "bad"] == 2
    assert masked(images) == ["bad/0.png"]
    assert any("1 files beside images are their masks" in text for _, text in images.remarks())


def test_an_image_without_a_mask_among_others_is_asked_about(tmp_path):
    write_kolektor(tmp_path)
    (tmp_path / "kos00/Part0_label.bmp").unlink()
    with pytest.raises(InputError, match=r"Part0\.jpg: has no mask beside it, as 9 other images have.*is it normal\?"):
        open_set(tmp_path)


def test_a_mask_beside_two_images_of_its_name(tmp_path):
    write_kolektor(tmp_path)
    write(tmp_path / "kos00/Part0.png")
    with pytest.raises(InputError, match=r"Part0_label\.bmp: may be the mask of Part0\.jpg or of Part0\.png"):
        open_set(tmp_path)
