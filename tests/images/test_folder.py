"""Folders of files: layouts, and every way in which they can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.folder import FolderSet
from kdad.images.splits import split_samples
from kdad.parameters.dataset import DatasetParameters


def write(path: Path, shape: tuple[int, int] = (20, 30), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)
    return path


def write_mvtec(base: Path) -> Path:
    """Write a small category: 3 training images, 2 normal test images, 2 cracks with masks."""
    for number in range(3):
        write(base / "train" / "good" / f"{number:03d}.png", value=number)
    for number in range(2):
        write(base / "test" / "good" / f"{number:03d}.png", value=50 + number)
        write(base / "test" / "crack" / f"{number:03d}.png", value=200 + number)
        write(base / "ground_truth" / "crack" / f"{number:03d}_mask.png", value=255)
    return base


def open_folder(root: Path, category: str | None = None, image_size: int | list[int] = 16) -> FolderSet:
    return FolderSet(DatasetParameters(name="folder", root=str(root), category=category, image_size=image_size))


def described(images: FolderSet) -> list[tuple]:
    return [(s.id, s.label, s.kind, s.subset, s.has_mask) for s in images.samples]


EXPECTED = [
    ("train/good/000.png", 0, "good", "train", False),
    ("train/good/001.png", 0, "good", "train", False),
    ("train/good/002.png", 0, "good", "train", False),
    ("test/crack/000.png", 1, "crack", "test", True),
    ("test/crack/001.png", 1, "crack", "test", True),
    ("test/good/000.png", 0, "good", "test", False),
    ("test/good/001.png", 0, "good", "test", False),
]


def test_mvtec_layout_by_category_or_directly(tmp_path):
    write_mvtec(tmp_path / "bottle")
    by_category, directly = open_folder(tmp_path, "bottle"), open_folder(tmp_path / "bottle")
    assert described(by_category) == described(directly) == EXPECTED
    assert by_category.category == directly.category == "bottle"
    assert any(sample.has_mask for sample in by_category.samples if sample.label)
    check_images(by_category)


def test_images_and_masks_are_resized_together(tmp_path):
    write_mvtec(tmp_path)
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[:10, :15] = 255
    Image.fromarray(mask).save(tmp_path / "ground_truth" / "crack" / "001_mask.png")
    images = open_folder(tmp_path, image_size=[10, 60])
    np.testing.assert_allclose(images.image(4), np.full((3, 10, 60), 201 / 255), atol=1e-6)
    expected = np.zeros((10, 60), dtype=bool)
    expected[:5, :30] = True
    np.testing.assert_array_equal(images.mask(4), expected)
    assert images.mask(0) is None


def test_masks_are_optional(tmp_path):
    write_mvtec(tmp_path)
    (tmp_path / "ground_truth" / "crack" / "000_mask.png").rename(tmp_path / "ground_truth" / "crack" / "001.PNG")
    (tmp_path / "ground_truth" / "crack" / "001_mask.png").unlink()
    images = open_folder(tmp_path)
    assert [s.has_mask for s in images.samples] == [False] * 4 + [True] + [False] * 2
    check_images(images)


def test_own_validation_part(tmp_path):
    write_mvtec(tmp_path)
    write(tmp_path / "validation" / "good" / "000.png")
    images = open_folder(tmp_path)
    check_images(images)
    assert split_samples(images.samples, 0.5, 0).count("validation") == 1


def test_labelled_layout(tmp_path):
    for number in range(10):
        write(tmp_path / "good" / f"{number}.png")
    write(tmp_path / "torn" / "0.png")
    write(tmp_path / "ground_truth" / "torn" / "0_mask.png", value=1)
    images = open_folder(tmp_path)
    check_images(images)
    subsets = [s.subset for s in images.samples if s.kind == "good"]
    assert (subsets.count("train"), subsets.count("test")) == (8, 2)
    assert described(images)[-1] == ("torn/0.png", 1, "torn", "test", True)


def test_flat_layout_keeps_a_fifth_for_the_test(tmp_path):
    for number in range(15):
        write(tmp_path / f"{number:02d}.jpg")
    first, second = open_folder(tmp_path), open_folder(tmp_path)
    check_images(first)
    assert described(first) == described(second)
    assert [s.id for s in first.samples] == [f"{number:02d}.jpg" for number in range(15)]
    assert {(s.label, s.kind) for s in first.samples} == {(0, "good")}
    assert sum(s.subset == "test" for s in first.samples) == 3
    assert not any(sample.has_mask for sample in first.samples if sample.label)


def test_three_good_images_are_enough_and_two_are_not(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png")
    images = open_folder(tmp_path)
    check_images(images)
    assert sorted(split_samples(images.samples, 0.1, 0)) == ["test", "train", "validation"]
    (tmp_path / "0.png").unlink()
    with pytest.raises(InputError, match="too few images to keep one for the test; at least 3"):
        check_images(open_folder(tmp_path))


def test_anomalies_without_normal_test_images_get_some(tmp_path):
    write_mvtec(tmp_path)
    for number in range(2):
        (tmp_path / "test" / "good" / f"{number:03d}.png").unlink()
    (tmp_path / "test" / "good").rmdir()
    images = open_folder(tmp_path)
    assert [(s.subset, s.label) for s in images.samples].count(("test", 0)) == 1
    check_images(images)


def test_extensions_hidden_files_and_others(tmp_path):
    for name in ("d.PNG", "b.JPeG", "a.bmp", "c.tif", "e.TIFF", "f.webp", "g.jpg"):
        write(tmp_path / name)
    write(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no image")
    images = open_folder(tmp_path)
    assert [s.id[0] for s in images.samples] == list("abcdefg")


def test_fingerprint_is_of_the_file(tmp_path):
    write_mvtec(tmp_path)
    images = open_folder(tmp_path)
    before = images.fingerprint(0)
    write(tmp_path / "train" / "good" / "000.png", value=77)
    assert images.fingerprint(0) != before
    assert images.fingerprint(1) == open_folder(tmp_path).fingerprint(1)


def test_missing_root_and_category(tmp_path):
    write_mvtec(tmp_path / "bottle")
    with pytest.raises(InputError, match=r"dataset\.root: there is no folder .*nowhere"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no folder 'botle' in .*did you mean 'bottle'\?"):
        open_folder(tmp_path, "botle")
    with pytest.raises(InputError, match=r"set dataset\.category to one of its folders: bottle"):
        open_folder(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"holds no images .*png.*expected train/good"):
        open_folder(tmp_path)
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images"):
        open_folder(tmp_path)


def test_no_normal_images(tmp_path):
    write(tmp_path / "test" / "crack" / "0.png")
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(InputError, match="there are no normal images to train on; put them in train/good"):
        check_images(open_folder(tmp_path))


def test_all_bad_files_are_in_one_message(tmp_path):
    write_mvtec(tmp_path)
    (tmp_path / "train" / "good" / "001.png").write_text("no image")
    whole = (tmp_path / "test" / "good" / "000.png").read_bytes()
    (tmp_path / "test" / "good" / "000.png").write_bytes(whole[:-30])
    write(tmp_path / "ground_truth" / "crack" / "000_mask.png", shape=(20, 29))
    (tmp_path / "ground_truth" / "crack" / "001_mask.png").write_text("no mask")
    write(tmp_path / "ground_truth" / "crack" / "009_mask.png")
    write(tmp_path / "train" / "stray.png")
    write(tmp_path / "train" / "crack" / "0.png")
    (tmp_path / "test" / "dent").mkdir()
    with pytest.raises(InputError) as caught:
        check_images(open_folder(tmp_path))
    header, *lines = str(caught.value).splitlines()
    assert header == f"the image set folder / {tmp_path.name} cannot be used:"
    expected = [
        ("train/crack", "only normal images train; move it to test/crack"),
        ("train/stray.png", "move it to train/good"),
        ("test/dent", "holds no images; add some, or remove the folder"),
        ("ground_truth/crack/009_mask.png", "is a mask without an image"),
        ("train/good/001.png", "cannot be read as an image"),
        ("ground_truth/crack/000_mask.png", "is 20 x 29, its image 20 x 30"),
        ("ground_truth/crack/001_mask.png", "cannot be read as an image"),
        ("test/good/000.png", "cannot be read as an image"),
    ]
    assert len(lines) == len(expected)
    for line, (name, message) in zip(lines, expected, strict=True):
        assert line.startswith(f"  {tmp_path / name}: ")
        assert message in line


def test_a_long_list_is_cut(tmp_path):
    write_mvtec(tmp_path)
    for number in range(25):
        write(tmp_path / "ground_truth" / "crack" / f"{100 + number}_mask.png")
    with pytest.raises(InputError) as caught:
        check_images(open_folder(tmp_path))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  and 5 more"


def test_the_range_of_wide_values_is_that_of_images_that_train(tmp_path):
    """Of twenty images of 16 bits eight train, eight are held out: a change of these changes no other."""
    generator = np.random.default_rng(0)
    pixels = {f"{row:02d}.png": generator.integers(1000, 3000, (16, 16)).astype(np.uint16) for row in range(20)}
    for name, values in pixels.items():
        path = tmp_path / "good" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(path)
    parameters = DatasetParameters(name="folder", root=str(tmp_path), image_size=16)
    before = FolderSet(parameters, seed=3)
    parts = split_samples(before.samples, "auto", 3)
    assert (parts.count("train"), parts.count("validation"), parts.count("test")) == (8, 8, 4)
    for part, changes in (("validation", False), ("train", True)):
        for row in (row for row, own in enumerate(parts) if own == part):
            Image.fromarray(pixels[f"{row:02d}.png"] * 20).save(tmp_path / "good" / f"{row:02d}.png")
        after = FolderSet(parameters, seed=3)
        assert (after.preparation != before.preparation) == changes
