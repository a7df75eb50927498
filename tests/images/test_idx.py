"""IDX files written byte by byte, good and bad."""

import gzip
import struct
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kdad.errors import InputError
from kdad.images import published
from kdad.images.published import IdxSet, read_idx
from kdad.parameters.dataset import DatasetParameters


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder: Path, classes: int = 10, compressed: bool = False) -> Path:
    """Write a training and a test part with one image a class, whose pixels are 20 times the class."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(classes)
    pixels = np.broadcast_to((labels * 20)[:, None, None], (classes, 28, 28))
    for prefix in ("train", "t10k"):
        for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


def open_set(root: Path | None, name: str = "mnist", **settings) -> IdxSet:
    settings = {"normal_class": 2, "image_size": 32, "root": root and str(root)} | settings
    return IdxSet(DatasetParameters(name=name, **settings))


def test_by_hand(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 255]))
    assert read_idx(path, 2).tolist() == [[7, 8, 255]]


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)), st.booleans())
def test_round_trip(tmp_path_factory, array, compressed):
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if compressed else "a")
    path.write_bytes(gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array))
    read = read_idx(path, array.ndim)
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


GOOD = idx_bytes(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of unsigned bytes in 3 dimensions"),
        (GOOD[:10], "is no IDX file"),
        (b"\x89PNG" + GOOD[4:], "is no IDX file"),
        (b"\0\0\x0d\3" + GOOD[4:], "is no IDX file"),
        (idx_bytes(np.zeros(40)), "is no IDX file .*labels are swapped"),
        (GOOD[:-1], "has 39 bytes where its header says 40"),
        (GOOD + b"\0", "has 41 bytes where its header says 40"),
        (b"\0\0\x08\3" + b"\xff" * 12 + b"\0", r"header says 79228162458924105385300197391"),  # (2^32 - 1)^3 + 16
    ],
)
def test_bad_content_names_the_file(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"train-images-idx3-ubyte: .*{message}"):
        read_idx(path, 3)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(GOOD)[:-12], GOOD, gzip.compress(GOOD)[:12] + b"\xff" * 30],
    ids=["cut short", "not compressed", "garbled"],  # not the bytes: they hold the time, and processes must agree
)
def test_bad_compression_names_the_file(tmp_path, content):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.gz: cannot be read .*fetch it again"):
        read_idx(path, 3)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("name", "subfolder"), [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")])
def test_root_and_its_subfolder_are_searched(tmp_path, name, subfolder, compressed):
    write_set(tmp_path / "direct", compressed=compressed)
    write_set(tmp_path / "nested" / subfolder, compressed=compressed)
    for root in ("direct", "nested"):
        images = open_set(tmp_path / root, name)
        assert [s.kind for s in images.samples[:2]] == ["good", published._PUBLISHED[name][1][0]]
        assert [s.subset for s in images.samples] == ["train"] + ["test"] * 10
        np.testing.assert_allclose(images.image(0), 40 / 255, atol=1e-6)


def test_fashion_classes_in_the_published_order(tmp_path):
    images = open_set(write_set(tmp_path), "fashion_mnist", normal_class=9)
    kinds = [s.kind for s in images.samples if s.label]
    expected = "t_shirt trouser pullover dress coat sandal shirt sneaker bag"
    assert kinds == expected.split()


def test_a_shared_root_gives_each_set_its_own_files(tmp_path):
    write_set(tmp_path)
    write_set(tmp_path / "FashionMNIST" / "raw", classes=5)
    assert len(open_set(tmp_path, "fashion_mnist").samples) == 6
    assert len(open_set(tmp_path, "mnist").samples) == 11


def test_root_without_files(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.root: .*hold no train-images-idx3-ubyte"):
        open_set(tmp_path)


def test_one_file_missing(tmp_path):
    (write_set(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"has no t10k-labels-idx1-ubyte\(\.gz\)"):
        open_set(tmp_path)


@pytest.mark.parametrize("labels", [np.arange(9), np.full(10, 11)])
def test_labels_that_do_not_fit(tmp_path, labels):
    (write_set(tmp_path) / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(InputError, match=rf"train-labels-idx1-ubyte: {len(labels)} labels from 0 to 9 do not go with"):
        open_set(tmp_path)


def test_part_without_images(tmp_path):
    write_set(tmp_path, classes=0)
    with pytest.raises(InputError, match="do not go with"):
        open_set(tmp_path)


def test_no_download_when_it_is_not_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST", downloader(lambda root: pytest.fail("downloaded")))
    with pytest.raises(InputError, match=r"dataset\.download: true"):
        open_set(None, download=False)


def test_no_internet(tmp_path, monkeypatch):
    def fail(root: Path) -> None:
        raise RuntimeError("Error downloading\nName or service not known")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST", downloader(fail))
    with pytest.raises(
        InputError, match=r"mnist could not be downloaded \(Error downloading Name .*internet"
    ) as caught:
        open_set(None)
    assert "\n" not in str(caught.value)


def test_downloaded_once(tmp_path, monkeypatch):
    calls = []

    def download(root: Path) -> None:
        calls.append(root)
        write_set(root / "MNIST" / "raw")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST", downloader(download))
    assert len(open_set(None).samples) == len(open_set(None).samples) == 11
    assert calls == [Path("data/01_raw")]


def test_a_download_that_another_process_has_just_ended_is_not_begun(tmp_path, monkeypatch):
    @contextmanager
    def wait(path: Path, what: str):
        assert path == Path("data/01_raw/.mnist.lock")
        write_set(Path("data/01_raw/MNIST/raw"))
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdad.images.one_class.one_at_a_time", wait)
    monkeypatch.setattr("torchvision.datasets.MNIST", downloader(lambda root: pytest.fail("downloaded")))
    assert len(open_set(None).samples) == 11


def downloader(action):
    """A stand-in for torchvision's class, which downloads when it is made."""
    return type("MNIST", (), {"__init__": lambda self, root, download: action(root)})


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_larger_than_any_set_is_not_unpacked_to_its_end(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(published, "_MOST", 1 << 20)
    content = idx_bytes(np.zeros((2, 1024, 1024)))
    path = tmp_path / f"large{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(InputError, match="holds more than 1 MB"):
        read_idx(path, 3)
