"""CIFAR-10 in its two layouts, made up: six batches, and folders of classes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.published import CLASS_NAMES, CifarSet
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def made_up(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten images, one a class; red is the class, green the row, blue the batch."""
    planes = np.zeros((10, 3, 32, 32), np.uint8)
    planes[:, 0] = np.arange(10)[:, None, None] * 20
    planes[:, 1] = np.arange(32)[:, None]
    planes[:, 2] = batch
    return planes.reshape(10, -1), np.arange(10)


def pickled(content: dict) -> bytes:
    """Pickle as Python 2 did, whose text was bytes: the published batches are of its time."""
    written = pickle.dumps(content, protocol=2)
    for key in content:
        size = len(key).to_bytes(4, "little")
        written = written.replace(b"X" + size + key.encode(), b"T" + size + key.encode())
    return written


def write_pickled(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        pixels, classes = made_up(number)
        (folder / name).write_bytes(pickled({"data": pixels, "labels": classes.tolist(), "filenames": []}))
    return folder


def write_folders(root: Path, names=CLASS_NAMES) -> Path:
    for part in ("train", "test"):
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (40, 30), (number * 20, 5, 9)).save(root / part / name / "a.png")
    return root


def open_set(root: Path | None, **settings) -> CifarSet:
    settings = {"normal_class": 3, "image_size": 32, "root": root and str(root)} | settings
    return open_image_set(DatasetParameters(name="cifar10", **settings))


@pytest.mark.parametrize("below", ["", "subfolder"])
def test_batches(tmp_path, below):
    folder = write_pickled(tmp_path / "cifar-10-batches-py")
    images = open_set(tmp_path if below else folder)
    check_images(images)
    assert [(s.subset, s.kind, s.label) for s in images.samples[:6]] == [
        *[("train", "good", 0)] * 5,
        ("test", "airplane", 1),
    ]
    assert (len(images.samples), images.category) == (15, "class_3")
    third = images.image(2)  # of data_batch_3, the batch of number 2
    assert third.shape == (3, 32, 32)
    np.testing.assert_allclose(third[0], 60 / 255, atol=1e-6)
    np.testing.assert_allclose(third[1, :, 7], np.arange(32) / 255, atol=1e-6)
    np.testing.assert_allclose(third[2], 2 / 255, atol=1e-6)


def test_pickled_batches_are_what_torchvision_reads(tmp_path, monkeypatch):
    write_pickled(tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs = CIFAR10(tmp_path, train=False)
    images = open_set(tmp_path)
    test = [row for row, sample in enumerate(images.samples) if sample.subset == "test"]
    for row, expected in zip(test, theirs.data, strict=True):
        np.testing.assert_allclose(images.image(row), expected.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("names", [CLASS_NAMES, [str(number) for number in range(10)]])
def test_folders_of_classes_are_resized(tmp_path, names):
    images = open_set(write_folders(tmp_path, names), image_size=[16, 24])
    assert len(images.samples) == 11
    assert {sample.kind for sample in images.samples} == {"good", *CLASS_NAMES} - {"cat"}
    np.testing.assert_allclose(images.image(0), np.broadcast_to([[[60]], [[5]], [[9]]], (3, 16, 24)) / 255, atol=1e-6)
    assert {part.pixels.shape for part in images.parts} == {(10, 30, 40, 3)}  # as in the files, not resized yet


def test_folders_of_images_of_several_sizes_are_held_at_the_models(tmp_path):
    root = write_folders(tmp_path)
    Image.new("RGB", (20, 20), (1, 2, 3)).save(root / "train/cat/b.png")
    images = open_set(root, image_size=[16, 24])
    assert [part.pixels.shape for part in images.parts] == [(11, 16, 24, 3), (10, 16, 24, 3)]
    np.testing.assert_allclose(images.image(1)[:, 5, 5], np.array([1, 2, 3]) / 255, atol=1e-6)


def test_a_batch_that_would_run_code_is_refused(tmp_path):
    folder = write_pickled(tmp_path / "a")

    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    (folder / "data_batch_2").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match=r"data_batch_2: is not a batch of CIFAR-10 \(it holds pathlib"):
        open_set(folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a batch of CIFAR-10"),
        (pickle.dumps([1, 2]), "is not a batch of CIFAR-10"),
        (pickled({"labels": []}), "is not a batch of CIFAR-10"),
        (pickled({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), r"\(2, 3072\) values of uint8 and 1 labels"),
        (pickled({"data": np.zeros((1, 100), np.uint8), "labels": [1]}), "not 3072 bytes for each label"),
        (pickled({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "for each label from 0 to 9"),
    ],
)
def test_a_damaged_batch_is_named(tmp_path, content, message):
    folder = write_pickled(tmp_path / "a")
    (folder / "data_batch_4").write_bytes(content)
    with pytest.raises(InputError, match=rf"data_batch_4: .*{message}"):
        open_set(folder)


def test_what_is_missing_is_named(tmp_path):
    folder = write_pickled(tmp_path / "a")
    (folder / "data_batch_5").unlink()
    with pytest.raises(InputError, match="has no data_batch_5; all six batches"):
        open_set(folder)
    with pytest.raises(InputError, match="holds neither CIFAR-10's batches nor train/<class>/ folders"):
        open_set(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.download: true"):
        open_set(None, download=False)


def test_folders_that_are_no_classes(tmp_path):
    (write_folders(tmp_path / "a") / "train/plane").mkdir()
    (tmp_path / "a/train/plane/a.png").write_bytes(b"")
    with pytest.raises(InputError, match="plane: is no class of CIFAR-10"):
        open_set(tmp_path / "a")
    (tmp_path / "b/train/cat").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images in folders of classes"):
        open_set(tmp_path / "b")
