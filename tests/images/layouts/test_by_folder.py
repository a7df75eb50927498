"""What folders say of their images: each layout that people have, and questions where names could mean either."""

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from layout_trees import counted, masked, numbered, open_set, write_all, write_mask


@pytest.mark.parametrize("normal", ["good", "Good", "normal", "NORMAL", "OK", "ok", "pass", "negative", "defect-free"])
def test_normal_images_by_any_of_their_names(tmp_path, normal):
    write_all(tmp_path, *numbered(f"train/{normal}", 3), *numbered(f"test/{normal}", 2), *numbered("test/ABNORMAL", 2))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "ABNORMAL"): 2}
    assert [sample.label for sample in images.samples if sample.kind == "good"] == [0] * 5


@pytest.mark.parametrize(
    ("normal", "other"), [("OK", "NG"), ("Good", "bad"), ("normal", "abnormal"), ("ok", "scratch")]
)
def test_kinds_side_by_side(tmp_path, normal, other):
    write_all(tmp_path, *numbered(normal, 10), *numbered(other, 3))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 8, ("test", "good"): 2, ("test", other): 3}


def test_parts_in_any_case_and_of_several_names(tmp_path):
    write_all(tmp_path, *numbered("Training/good", 3), *numbered("VAL/ok", 1), *numbered("Testing/ng", 1))
    write_all(tmp_path, *numbered("Testing/OK", 2))
    assert counted(open_set(tmp_path)) == {
        ("train", "good"): 3,
        ("validation", "good"): 1,
        ("test", "ng"): 1,
        ("test", "good"): 2,
    }


def test_kinds_above_parts(tmp_path):
    write_all(tmp_path, *numbered("good/train", 3), *numbered("good/test", 2), *numbered("bad/test", 1))
    assert counted(open_set(tmp_path)) == {("train", "good"): 3, ("test", "good"): 2, ("test", "bad"): 1}


def test_btad(tmp_path):
    write_all(tmp_path / "01", *numbered("train/ok", 3, ".bmp"), *numbered("test/ok", 2, ".bmp"))
    write_all(tmp_path / "01", *numbered("test/ko", 2, ".bmp"))
    for number in range(2):
        write_mask(tmp_path / f"01/ground_truth/ko/{number:03d}.png")
    images = open_set(tmp_path, "01")
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "ko"): 2, ("test", "good"): 2}
    assert masked(images) == ["test/ko/000.bmp", "test/ko/001.bmp"]


def test_mvtec_loco_has_several_masks_of_an_image_in_a_folder(tmp_path):
    write_all(tmp_path, *numbered("train/good", 3), *numbered("validation/good", 1), *numbered("test/good", 1))
    write_all(tmp_path, *numbered("test/logical_anomalies", 2))
    write_mask(tmp_path / "ground_truth/logical_anomalies/000/000.png", slice(0, 2))
    write_mask(tmp_path / "ground_truth/logical_anomalies/000/001.png", slice(10, 13))
    write_mask(tmp_path / "ground_truth/logical_anomalies/001/000.png", slice(4, 5))
    images = open_set(tmp_path)
    check_images(images)
    assert masked(images) == ["test/logical_anomalies/000.png", "test/logical_anomalies/001.png"]
    assert [int(images.own_mask(row).sum()) for row in (5, 6)] == [(2 + 3) * 5, 1 * 5]


def test_visa_without_its_list(tmp_path):
    write_all(tmp_path, *numbered("Data/Images/Normal", 5, ".JPG"), *numbered("Data/Images/Anomaly", 2, ".JPG"))
    for number in range(2):
        write_mask(tmp_path / f"Data/Masks/Anomaly/{number:03d}.png", value=1)
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 4, ("test", "good"): 1, ("test", "Anomaly"): 2}
    assert len(masked(images)) == 2


def test_mvtec_3d_has_pictures_coordinates_and_masks_in_each_kind(tmp_path):
    write_all(tmp_path, *numbered("train/good/rgb", 3), *numbered("train/good/xyz", 3, ".tiff"))
    write_all(tmp_path, *numbered("test/good/rgb", 1), *numbered("test/hole/rgb", 1), *numbered("test/hole/xyz", 1))
    write_mask(tmp_path / "test/hole/gt/000.png")
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 1, ("test", "hole"): 1}
    assert masked(images) == ["test/hole/rgb/000.png"]
    assert "4 x coordinates (xyz), no picture" in dict(images.remarks())["not used"]


def test_masks_beside_good_in_a_folder_of_their_own(tmp_path):
    write_all(tmp_path / "flat", *numbered("good", 5), *numbered("bad", 2))
    write_all(tmp_path / "toy", *numbered("good", 5), "NG/colour/0.png", "NG/crack/0.png")
    write_all(tmp_path / "one", *numbered("good", 5), *numbered("bad", 2))
    for number in range(2):
        write_mask(tmp_path / f"flat/mask/{number:03d}.png")
        write_mask(tmp_path / f"one/ground_truth/{number:03d}_mask.png")
    write_mask(tmp_path / "toy/mask/colour/0.png", slice(0, 1))
    write_mask(tmp_path / "toy/mask/crack/0.png", slice(0, 3))
    for name, kind, count in (("flat", "bad", 2), ("toy", "NG", 2), ("one", "bad", 2)):
        images = open_set(tmp_path, name)
        check_images(images)
        assert counted(images) == {("train", "good"): 4, ("test", "good"): 1, ("test", kind): count}
        assert len(masked(images)) == 2
    toy = open_set(tmp_path, "toy")
    rows = {sample.id: row for row, sample in enumerate(toy.samples)}
    assert [int(toy.own_mask(rows[f"NG/{kind}/0.png"]).sum()) for kind in ("colour", "crack")] == [5, 15]


def test_images_a_level_deeper_are_all_used(tmp_path):
    write_all(tmp_path, *numbered("train/good", 2), *numbered("train/good/day2", 4), *numbered("test/good/cam0", 2))
    write_all(tmp_path, *numbered("test/spot", 1), *numbered("test/spot/day2/late", 2))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 6, ("test", "good"): 2, ("test", "spot"): 3}


def test_normal_images_with_a_folder_bad_beside_them(tmp_path):
    write_all(tmp_path, *(f"{number}.png" for number in range(10)), *numbered("bad", 3))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 8, ("test", "good"): 2, ("test", "bad"): 3}
    assert ("note", f"images that lie in {tmp_path.name} itself are taken as normal") in images.remarks()


def test_a_train_folder_without_kinds_is_of_normal_images(tmp_path):
    write_all(tmp_path, *numbered("train", 5), *numbered("test/good", 1), *numbered("test/torn", 1))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images)["train", "good"] == 5
    assert ("note", "5 images lie in train itself, and are taken as normal") in images.remarks()


@pytest.mark.parametrize(
    ("names", "question"),
    [
        (
            [*numbered("train/good", 3), *numbered("test/good_2", 2), *numbered("test/torn", 1)],
            r"test/good_2: are its 2 images normal, or a kind of defect\? .*dataset\.layout\.normal=\['good_2'\]",
        ),
        (
            [*numbered("train/good", 3), *numbered("test/normals", 2)],
            r"test/normals: are its 2 images normal",
        ),
        (
            [*numbered("train/good", 3), *numbered("test/0", 2), *numbered("test/1", 2)],
            r"test/0: are its 2 images normal",
        ),
        (
            [*numbered("day1", 3), *numbered("day2", 2)],
            r"which of its folders hold normal images: day1 \(3 images\), day2 \(2 images\)\? .*\[NAME, \.\.\.\]$",
        ),
        (
            [*numbered("train/cam0", 3), *numbered("test/good", 2)],
            r"train holds the folder cam0, and none is a name of normal images",
        ),
        (
            [*numbered("normal_images", 3), *numbered("defect_images", 2)],
            r"\? None has a name .*; name those that do, and no others: dataset\.layout\.normal=\['normal_images'\]$",
        ),
        (
            [*numbered("fine", 3), *numbered("defect_images", 2)],
            r"name those that do, and no others: dataset\.layout\.normal=\[NAME, \.\.\.\]$",
        ),
        (
            [*numbered("normal", 3), *numbered("bad", 2), *numbered("bad_mask", 2)],
            r"bad_mask: does it hold 2 masks, or images of a kind\? .*masks=\['bad_mask'\] or .*anomalous=",
        ),
        (
            [*numbered("train/good", 3), *numbered("test/hole", 2), *numbered("test/labels", 2)],
            r"test/labels: does it hold 2 masks",
        ),
        (
            ["a.png", "b.png", *numbered("day2", 2)],
            r"which of its folders hold normal images: day2 \(2 images\)",
        ),
        (
            [*numbered("train/good", 3), *numbered("train/cam/good", 2)],
            "folders of normal images lie at different depths",
        ),
    ],
)
def test_what_may_mean_either_is_asked(tmp_path, names, question):
    write_all(tmp_path, *names)
    with pytest.raises(InputError, match=question):
        open_set(tmp_path)


def test_an_answer_is_taken(tmp_path):
    write_all(tmp_path, *numbered("day1", 4), *numbered("day2", 6), *numbered("odd", 2))
    images = open_set(tmp_path, layout={"normal": ["day1", "day2"]})
    check_images(images)
    assert counted(images) == {("train", "good"): 8, ("test", "good"): 2, ("test", "odd"): 2}
    write_all(tmp_path / "other", *numbered("train/good", 3), *numbered("test/good_2", 2))
    assert counted(open_set(tmp_path, "other", layout={"anomalous": ["good_2"]}))["test", "good_2"] == 2


def test_a_kind_called_mask_is_asked_about_and_the_answer_is_right(tmp_path):
    write_all(tmp_path, *(f"good/face{number}.png" for number in range(5)), "mask/worn1.png", "mask/worn2.png")
    with pytest.raises(InputError, match=r"as are all 2 of 'mask'; are they masks\?.*layout\.anomalous=\['mask'\]"):
        check_images(open_set(tmp_path))
    images = open_set(tmp_path, layout={"anomalous": ["mask"]})
    check_images(images)
    assert counted(images)["test", "mask"] == 2


def test_a_test_part_alone_has_nothing_to_train_on(tmp_path):
    write_all(tmp_path, *numbered("test/good", 3), *numbered("test/torn", 1))
    with pytest.raises(InputError, match="there are no normal images to train on; put them in train/good"):
        check_images(open_set(tmp_path))


def test_images_outside_of_the_parts(tmp_path):
    write_all(tmp_path, *numbered("train/good", 3), *numbered("test/good", 1), *numbered("extra", 1), "overview.png")
    images = open_set(tmp_path)
    with pytest.raises(InputError, match=r"extra/000\.png: lies outside of the parts") as caught:
        check_images(images)
    assert "overview" not in str(caught.value)
    assert "1 x beside the folders of the parts, such as overview.png" in dict(images.remarks())["not used"]


def test_folders_of_masks_that_are_named_after_kinds(tmp_path):
    write_all(tmp_path, *numbered("normal", 5), *numbered("bad", 2), *numbered("dent", 2))
    for name in ("bad_mask/000", "bad_mask/001", "dent_mask/001"):
        write_mask(tmp_path / f"{name}.png")
    images = open_set(tmp_path, layout={"masks": ["bad_mask", "dent_mask"]})
    check_images(images)
    assert masked(images) == ["bad/000.png", "bad/001.png", "dent/001.png"]


def test_masks_in_a_folder_of_any_name_are_asked_about(tmp_path):
    """They hold two values, where the images of a camera hold many."""
    for number in range(6):
        picture = np.arange(600, dtype=np.uint8).reshape(20, 30) // 3 + number
        for folder in ("good", "bad")[: 1 + (number < 2)]:
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{number}.png")
    write_mask(tmp_path / "where/0.png")
    write_mask(tmp_path / "where/1.png")
    with pytest.raises(InputError, match=r"0\.png: this and the 1 other images of 'where' hold two") as said:
        check_images(open_set(tmp_path))
    assert "dataset.layout.masks=['where'], or, if they are images" in str(said.value)
    images = open_set(tmp_path, layout={"masks": ["where"]})
    check_images(images)
    assert masked(images) == ["bad/0.png", "bad/1.png"]
    kept = open_set(tmp_path, layout={"anomalous": ["where"]})
    check_images(kept)
    assert counted(kept)["test", "where"] == 2
