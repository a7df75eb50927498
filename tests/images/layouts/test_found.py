"""What is found below a folder, and what is said of the rest."""

import os
from pathlib import Path

import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.layouts.layout import batches_of, kinds_by_folder, look_for_images, mask_folder


def test_images_in_a_folder_good_are_normal_and_those_beside_it_anomalous():
    names = ["test/good/1.png", "test/torn/1.png", "test/wet/1.png"]
    assert kinds_by_folder(names) == ["good", "torn", "wet"]


def test_without_a_folder_good_nothing_is_known():
    assert kinds_by_folder(["torn/1.png", "wet/1.png", "1.png"]) == [None, None, None]


def test_good_images_alone_are_normal():
    assert kinds_by_folder(["good/1.png", "good/2.png"]) == ["good", "good"]


def test_what_lies_beside_no_good_has_no_label_though_others_have():
    assert kinds_by_folder(["good/1.png", "1.png", "torn/1.png"]) == ["good", None, "torn"]
    assert kinds_by_folder(["a/good/1.png", "b/torn/1.png"]) == ["good", None]


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
    assert kinds_by_folder([name, "torn/1.png"]) == [None, None]


def test_folders_of_masks_below_the_folder_given():
    base = Path("/ground_truth/set")
    names = ("torn/1.png", "ground_truth/torn/1.png", "a/Masks/1.png", "ground_truth")
    assert [mask_folder(base / name, base) for name in names] == [None, "ground_truth", "Masks", None]


@pytest.fixture
def picture(tmp_path):
    """Write a picture of this name and size (width, height)."""

    def write(name, size=(4, 3)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
        return path

    return write


def test_images_with_their_names_kinds_and_sizes(tmp_path, picture):
    for name in ("good/b.png", "torn/a.png", "a.png"):
        picture(name)
    (tmp_path / "pictures/z.png").write_bytes(b"no image")
    found = look_for_images(tmp_path / "pictures")
    assert found.names == ["a.png", "good/b.png", "torn/a.png", "z.png"]
    assert found.labels == [None, 0, 1, None]
    assert found.sizes == [(3, 4), (3, 4), (3, 4), None]
    assert found.left_out == []


def test_a_folder_that_is_called_good_is_of_normal_images(tmp_path, picture):
    picture("good/deep/a.png")
    assert look_for_images(tmp_path / "pictures/good").labels == [0]
    assert look_for_images(tmp_path / "pictures/good/deep").labels == [None]


def test_one_file(picture):
    path = picture("torn/a.png")
    picture("good/a.png")
    found = look_for_images(path)
    assert (found.names, found.labels, found.left_out) == (["a.png"], [None], [])


@pytest.fixture
def tree(tmp_path) -> Path:
    """Images at several depths, among other things."""
    names = ("b.png", "a.JPG", "c/d/e.tiff", "c/a.webp", "notes.txt", ".hidden.png", ".cache/f.png", "c/.g/h.png", "x")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_images_are_found_at_any_depth_in_order_without_hidden_ones(tree):
    found = [path.relative_to(tree).as_posix() for path in look_for_images(tree).paths]
    assert found == ["a.JPG", "b.png", "c/a.webp", "c/d/e.tiff"]


def test_a_folder_below_a_hidden_one_is_searched_when_asked_for(tree):
    assert [path.name for path in look_for_images(tree / ".cache").paths] == ["f.png"]


def test_a_single_file_is_itself(tree):
    assert look_for_images(tree / "x").paths == [tree / "x"]


def test_nothing_there_and_no_images(tree):
    with pytest.raises(InputError, match=r"there is no file or folder '.*none'"):
        look_for_images(tree / "none")
    with pytest.raises(InputError, match=r"folder\.png' holds no images \(avif, bmp, gif, j2k, .*, tiff, webp\)"):
        look_for_images(tree / "folder.png")


def test_what_is_left_out_is_said(tmp_path, picture):
    for name in (
        "a.png",
        "ground_truth/torn/1.png",
        "ground_truth/torn/2.png",
        "mask/1.png",
        ".hidden/b.png",
        ".b.png",
    ):
        picture(name)
    base = tmp_path / "pictures"
    for name in ("notes.txt", "data.csv", "README"):
        (base / name).touch()
    (base / "gone.png").symlink_to(base / "nowhere.png")
    (base / "elsewhere").symlink_to(tmp_path)
    assert look_for_images(base).left_out == [
        "2 x masks below 'ground_truth'",
        "1 x masks below 'mask'",
        "2 x hidden",
        "1 x no image (no extension)",
        "1 x no image (.csv)",
        "1 x a link to a folder, which is not followed",
        "1 x a link to a file that is not there",
        "1 x no image (.txt)",
    ]


def test_a_linked_file_is_an_image_and_a_linked_folder_can_be_given(tmp_path, picture):
    picture("a.png")
    (tmp_path / "pictures/b.png").symlink_to(tmp_path / "pictures/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    assert look_for_images(tmp_path / "link").names == ["a.png", "b.png"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_said(tmp_path, picture):
    picture("a.png")
    picture("closed/b.png").parent.chmod(0)
    assert look_for_images(tmp_path / "pictures").left_out == ["1 x cannot be opened (Permission denied)"]
    (tmp_path / "pictures/closed").chmod(0o755)


def test_masks_alone_are_nothing_to_predict(tmp_path, picture):
    picture("ground_truth/torn/1.png")
    with pytest.raises(InputError, match="holds no images but masks below 'ground_truth'"):
        look_for_images(tmp_path / "pictures")
    assert look_for_images(tmp_path / "pictures/ground_truth").names == ["torn/1.png"]


@pytest.mark.parametrize(
    ("most", "pixels", "expected"),
    [(2, 99, ["ab", "cd"]), (9, 24, ["ab", "cd"]), (9, 12, ["a", "b", "cd"]), (9, 1, ["a", "b", "c", "d"])],
)
def test_batches_are_bounded_by_count_and_by_pixels(tmp_path, picture, most, pixels, expected):
    for name in "abc":
        picture(f"{name}.png")  # of 12 pixels
    (tmp_path / "pictures/d.png").touch()
    batches = batches_of(look_for_images(tmp_path / "pictures").paths, most, pixels)
    assert ["".join(path.stem for path in batch) for batch in batches] == expected
