"""Which images are labelled by the folder that they lie in."""

from pathlib import Path

import pytest

from kdad.images.labels import kinds_by_folder, label_by_folder, mask_folder


def test_images_in_a_folder_good_are_normal_and_those_beside_it_anomalous():
    names = ["test/good/1.png", "test/torn/1.png", "test/wet/1.png"]
    assert label_by_folder(names) == [0, 1, 1]
    assert kinds_by_folder(names) == ["good", "torn", "wet"]


def test_without_a_folder_good_nothing_is_known():
    assert label_by_folder(["torn/1.png", "wet/1.png", "1.png"]) == [None, None, None]


def test_good_images_alone_are_normal():
    assert label_by_folder(["good/1.png", "good/2.png"]) == [0, 0]


def test_what_lies_beside_no_good_has_no_label_though_others_have():
    assert label_by_folder(["good/1.png", "1.png", "torn/1.png"]) == [0, None, 1]
    assert label_by_folder(["a/good/1.png", "b/torn/1.png"]) == [0, None]


def test_folders_in_folders_are_of_their_kind():
    names = ["good/camera 1/a/1.png", "torn/camera 2/1.png"]
    assert kinds_by_folder(names) == ["good", "torn"]


def test_the_innermost_folder_with_a_good_decides():
    names = ["good/1.png", "bad/good/1.png", "bad/torn/1.png", "bad/torn/deep/1.png", "bad/1.png"]
    assert kinds_by_folder(names) == ["good", "good", "torn", "torn", "bad"]


@pytest.mark.parametrize("name", ["Good", "OK", "normal", "defect-free"])
def test_normal_images_have_any_of_their_names(name):
    assert kinds_by_folder([f"{name}/1.png", "torn/1.png"]) == ["good", "torn"]


@pytest.mark.parametrize("name", ["goods/1.png", "good", "good.png", "not good/1.png"])
def test_another_name_is_no_good(name):
    assert label_by_folder([name, "torn/1.png"]) == [None, None]


def test_folders_of_masks_below_the_folder_given():
    base = Path("/ground_truth/set")
    names = ("torn/1.png", "ground_truth/torn/1.png", "a/Masks/1.png", "ground_truth")
    assert [mask_folder(base / name, base) for name in names] == [None, "ground_truth", "Masks", None]
