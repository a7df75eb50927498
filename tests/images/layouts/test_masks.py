"""Which mask is of which image."""

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.layouts.layout import look_for_images
from kdad.images.layouts.marks import unmarked
from layout_trees import SHAPE, counted, masked, numbered, open_set, write, write_all, write_mask


@pytest.fixture
def base(tmp_path):
    """Three images to train on and one good image to test."""
    return write_all(tmp_path, *numbered("train/good", 3), *numbered("test/good", 1))


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("000_mask", "000"),
        ("a-GT", "a"),
        ("Part0_label", "Part0"),
        ("x_ground_truth", "x"),
        ("000", None),
        ("mask", None),
    ],
)
def test_markers(stem, expected):
    assert unmarked(stem) == expected


@pytest.mark.parametrize(
    "mask", ["000_mask.png", "000.png", "000_gt.png", "000.bmp", "000_mask_1.png", "000_1_mask.png", "000_2.png"]
)
def test_names_of_masks(base, mask):
    write_all(base, "test/spot/000.png")
    write_mask(base / "ground_truth/spot" / mask)
    images = open_set(base)
    check_images(images)
    assert masked(images) == ["test/spot/000.png"]


def test_several_masks_of_one_image_are_laid_together(base):
    write_all(base, "test/spot/000.png")
    write_mask(base / "ground_truth/spot/000_mask_0.png", slice(0, 1))
    write_mask(base / "ground_truth/spot/000_mask_1.png", slice(8, 10))
    images = open_set(base)
    row = [sample.id for sample in images.samples].index("test/spot/000.png")
    assert images.own_mask(row).sum() == 3 * 5


def test_of_two_images_with_one_stem_the_mask_is_of_the_one_with_its_ending(base):
    write_all(base, "test/spot/000.png", "test/spot/000.jpg")
    write_mask(base / "ground_truth/spot/000_mask.png")
    images = open_set(base)
    check_images(images)
    assert masked(images) == ["test/spot/000.png"]
    assert (
        "note",
        "masks whose name is that of several images, such as 000_mask.png, are taken for those of the image "
        "with their ending (1)",
    ) in images.remarks()


def test_of_two_images_with_one_stem_and_other_endings_it_is_asked(base):
    write_all(base, "test/spot/000.bmp", "test/spot/000.jpg")
    write_mask(base / "ground_truth/spot/000_mask.png")
    with pytest.raises(InputError, match=r"may be the mask of .*000\.bmp or of .*000\.jpg; name it like its image"):
        check_images(open_set(base))


def test_images_whose_own_names_end_like_those_of_masks(base):
    write_all(base, "test/spot/face1_mask.png", "test/spot/face2_mask.png")
    for number in (1, 2):
        write_mask(base / f"ground_truth/spot/face{number}_mask.png", slice(0, number))
    images = open_set(base)
    check_images(images)
    assert masked(images) == ["test/spot/face1_mask.png", "test/spot/face2_mask.png"]
    rows = [row for row, sample in enumerate(images.samples) if sample.has_mask]
    assert [int(images.own_mask(row).sum()) for row in rows] == [5, 10]


def test_a_mask_in_one_folder_for_all_kinds_is_of_the_anomalous_image(base):
    write_all(base, "test/spot/000.png")
    write_mask(base / "masks/000.png")  # train/good and test/good have a 000.png too
    images = open_set(base)
    check_images(images)
    assert masked(images) == ["test/spot/000.png"]


def test_a_mask_that_any_of_two_kinds_may_have_is_asked(base):
    write_all(base, "test/spot/000.png", "test/dent/000.png")
    write_mask(base / "masks/000.png")
    with pytest.raises(InputError, match=r"may be the mask of .*dent/000\.png or of .*spot/000\.png"):
        check_images(open_set(base))


def test_folders_of_masks_in_another_case(base):
    write_all(base, "test/Spot/000.png")
    write_mask(base / "Ground_Truth/spot/000_mask.png")
    assert masked(open_set(base)) == ["test/Spot/000.png"]


def test_empty_masks_of_normal_images_are_said_not_to_be_used(base):
    write_all(base, "test/spot/000.png")
    write_mask(base / "ground_truth/spot/000_mask.png")
    write_mask(base / "ground_truth/good/000_mask.png", slice(0, 0))
    images = open_set(base)
    check_images(images)
    assert "1 x an empty mask of a normal image" in dict(images.remarks())["not used"]


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


def test_kolektor_whose_masks_are_dark_where_anomalous(tmp_path):
    for number in range(10):
        write(tmp_path / f"kos{number // 2:02d}/Part{number}.jpg", number)
        marked = slice(2, 6) if number == 3 else slice(0, 0)
        write_mask(tmp_path / f"kos{number // 2:02d}/Part{number}_label.png", marked, value=0, background=255)
    images = open_set(tmp_path, layout={"anomalous_in_masks": "dark"})
    check_images(images)
    assert counted(images) == {("train", "good"): 7, ("test", "good"): 2, ("test", "defect"): 1}
    assert masked(images) == ["kos01/Part3.jpg"]


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


def test_masks_of_ignored_pixels_lie_as_their_images_do(tmp_path):
    write_all(
        tmp_path, *numbered("train/good", 4), *numbered("test/good", 3), *numbered("test/bad", 2), "test/bad/x.png"
    )
    write_mask(tmp_path / "ground_truth/bad/000_mask.png", slice(2, 18))
    for name in ("train/good/001.png", "test/good/001.png", "bad/000.png", "x.png"):
        write_mask(tmp_path / "ignore" / name, slice(10, 20))
    images = open_set(tmp_path, image_size=list(SHAPE))
    check_images(images)
    assert len(images.samples) == 10
    rows = {sample.id: row for row, sample in enumerate(images.samples)}
    ignored = {name for name, row in rows.items() if images.ignored(row) is not None}
    assert ignored == {"train/good/001.png", "test/good/001.png", "test/bad/000.png", "test/bad/x.png"}
    row = rows["test/bad/000.png"]
    own = np.tile(np.arange(30, dtype=np.uint8), (20, 1))
    own[10:, 3:8] = 255
    Image.fromarray(own).save(tmp_path / "test/bad/000.png")
    own[10:, 3:8] = [2, 2, 5, 8, 8]  # but for the middle, beside and above which others are nearer
    np.testing.assert_array_equal(images.own_pixels(row)[12:, [3, 4, 6, 7], 0], own[12:, [3, 4, 6, 7]])
    write(tmp_path / "test/bad/000.png", 9)
    marked = images.ignored(row)
    assert marked[10:, 3:8].all() and marked.sum() == 10 * 5
    assert images.mask(row).sum() == 8 * 5  # of rows 2 to 17 the first eight
    pixels = images.image(row)
    assert np.unique(pixels).size == 1  # filled by the nearest pixels
    assert images.fingerprint(row) != open_set(tmp_path, layout={"ignore": ["ignore"]}).fingerprint(row)
    # A folder of them is no folder of images to predict.
    assert look_for_images(tmp_path).left_out == ["1 x masks below 'ground_truth'", "4 x masks below 'ignore'"]


def test_a_mask_of_ignored_pixels_that_is_not_certain_is_named(tmp_path):
    write_all(tmp_path, *numbered("train/good", 4), *numbered("test/good", 3), *numbered("test/bad", 2))
    write_mask(tmp_path / "ignore/good/001.png")
    write_mask(tmp_path / "ignore/test/bad/009.png")
    write(tmp_path / "ignore/bad/000.png", 255)
    write(tmp_path / "ignore/bad/001.png", 255, (9, 9))
    with pytest.raises(InputError) as said:
        check_images(open_set(tmp_path))
    problems = str(said.value).replace(f"{tmp_path}/", "")
    for problem in (
        "ignore/good/001.png: marks pixels to ignore of train/good/001.png or of test/good/001.png; lay it as its",
        "ignore/test/bad/009.png: marks pixels to ignore of no image that is used; lay it as",
        "ignore/bad/000.png: ignores the whole image; leave the image out",
        "ignore/bad/001.png: is 9 x 9, its image 20 x 30 (height x width); make them equal",
    ):
        assert problem in problems


def test_masks_of_ignored_pixels_where_masks_stand_beside_images(tmp_path):
    write_kolektor(tmp_path)
    for name in ("ignore/kos00/Part0.png", "ignore/kos01/Part3_mask.png", "ground_truth/kos00/Part0.png"):
        write_mask(tmp_path / name, slice(0, 20))
    images = open_set(tmp_path, image_size=list(SHAPE))
    check_images(images)
    ignored = {sample.id for row, sample in enumerate(images.samples) if images.ignored(row) is not None}
    assert ignored == {"kos00/Part0.jpg", "kos01/Part3.jpg"}
    assert images.remarks()[0] == (
        "not used",
        "1 x in a folder of masks, where masks lie beside images, such as ground_truth/kos00/Part0.png",
    )
