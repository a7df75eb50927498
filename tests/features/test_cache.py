"""What is written to the cache is what comes back, and nothing half-written stays."""

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.features.cache import find_cache, open_cache, write_cache, write_selection
from kdad.networks.points import CriticalPoint

_POINTS = [CriticalPoint("low", 4, 3, 5, signed=True), CriticalPoint("high", 2, 1, 2, signed=False)]
_SIZE = (6, 10)
_ROWS = 5
_Usage = namedtuple("_Usage", "total used free")


@pytest.fixture
def content() -> tuple[np.ndarray, list[torch.Tensor]]:
    """Five non-square images and their activations at two critical points."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(_ROWS, 3, *_SIZE, generator=generator).numpy()
    return images, [torch.randn(_ROWS, p.channels, p.height, p.width, generator=generator) for p in _POINTS]


@pytest.fixture
def write(tmp_path, content):
    """Write the content to ``cache`` two rows at a time; `stop_after` raises after so many batches."""

    def _write(dtype="float32", scales=(1.0, 1.0), stop_after=None, error=RuntimeError, **manifest):
        images, activations = content
        finish = {}

        def batches():
            for index, start in enumerate(range(0, _ROWS, 2)):
                if index == stop_after:
                    raise error
                rows = slice(start, start + 2)
                yield images[rows], [activation[rows] for activation in activations]
            finish["scales"] = list(scales)

        complete = {"image_size": list(_SIZE), "dtype": dtype, **manifest}
        return write_cache(tmp_path / "place" / "cache", complete, _POINTS, _ROWS, batches(), finish)

    return _write


def test_rows_come_back_as_they_were_written_in_any_order(write, content):
    images, activations = content
    cache = write()
    rows = np.array([4, 0, 3])
    assert torch.equal(cache.images(rows), torch.from_numpy(images[rows]))
    for found, expected in zip(cache.activations(rows), activations, strict=True):
        assert torch.equal(found, expected[rows])
        assert found.dtype == torch.float32
    assert (cache.size, cache.names, cache.critical_points) == (_SIZE, ("low", "high"), _POINTS)


def test_activations_are_divided_by_their_points_scale(write, content):
    cache = write(scales=(2.0, 0.5))
    low, high = cache.activations(np.arange(_ROWS))
    assert torch.equal(low, content[1][0] / 2)
    assert torch.equal(high, content[1][1] * 2)


def test_bfloat16_storage_keeps_bfloat16_exactly_and_halves_the_files(write, content):
    activations = content[1]
    full = write("float32").folder / "low.npy"
    bytes_full = full.stat().st_size - 128  # the header of .npy
    cache = write("bfloat16")
    assert (cache.folder / "low.npy").stat().st_size - 128 == bytes_full / 2
    for found, expected in zip(cache.activations(np.arange(_ROWS)), activations, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected.to(torch.bfloat16).float())
    assert cache.images(np.arange(2)).dtype == torch.float32


def test_arrays_are_channels_last_on_disk(write, content):
    write()
    stored = np.load(open_cache(write().folder).folder / "low.npy")
    np.testing.assert_array_equal(stored, content[1][0].permute(0, 2, 3, 1).numpy())


def test_a_matching_manifest_is_reused(write, content):
    folder = write(source="vgg16", weights="abc").folder
    found = find_cache(folder, {"source": "vgg16", "weights": "abc", "image_size": [6, 10]})
    assert torch.equal(found.images(np.array([1])), torch.from_numpy(content[0][[1]]))


@pytest.mark.parametrize("wanted", [{"weights": "abd"}, {"weights": "abc", "ids": "new"}, {"image_size": [10, 6]}])
def test_a_manifest_that_differs_or_lacks_a_key_is_not_used(write, wanted):
    assert find_cache(write(weights="abc").folder, wanted) is None


def test_no_cache_is_none_to_find_and_an_input_error_to_open(tmp_path):
    assert find_cache(tmp_path / "none", {}) is None
    with pytest.raises(InputError, match=r"none' is missing or damaged.*run 'features' again"):
        open_cache(tmp_path / "none")


@pytest.mark.parametrize("file_name", ["images.npy", "low.npy", "high.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_cache_is_never_used(write, file_name, damage):
    folder = write(weights="abc").folder
    path = folder / file_name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-10], "garbage": b"\xff" * len(content)}[damage])
    assert find_cache(folder, {"weights": "abc"}) is None
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)


def test_a_manifest_of_another_form_is_damage(write):
    folder = write().folder
    (folder / "manifest.json").write_text(json.dumps(["no", "manifest"]))
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)


def test_too_small_a_disk_is_an_input_error_before_the_first_batch(tmp_path, monkeypatch, write):
    # float32: (4*3*5 + 2*1*2 + 3*6*10) * 4 bytes * 5 images = 4880 bytes, of which 95 % of the disk may be taken
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 5136))
    with pytest.raises(InputError, match=r"the activation cache needs .* GB in '.*place'"):
        write(stop_after=0, error=AssertionError)
    assert list((tmp_path / "place").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 5137))
    assert write().folder.is_dir()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("stop_after", [0, 2])
def test_an_interruption_leaves_no_folder(tmp_path, write, error, stop_after):
    with pytest.raises(error):
        write(stop_after=stop_after, error=error)
    assert list((tmp_path / "place").iterdir()) == []


def test_an_interruption_leaves_the_older_cache(tmp_path, write):
    folder = write(weights="old").folder
    with pytest.raises(RuntimeError):
        write(weights="new", stop_after=1)
    assert open_cache(folder).manifest["weights"] == "old"
    assert list((tmp_path / "place").iterdir()) == [folder]


def test_what_a_killed_run_left_is_replaced(tmp_path, write):
    (tmp_path / "place" / "cache.tmp").mkdir(parents=True)
    (tmp_path / "place" / "cache.tmp" / "low.npy").write_bytes(b"half")
    write(weights="new")
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["cache"]
    assert open_cache(tmp_path / "place" / "cache").manifest["weights"] == "new"


_SHARED = {"images": "a", "weights": "b", "critical_points": ["low", "high"]}


def test_a_selection_gives_the_rows_it_names_by_its_own_scales(tmp_path, write, content):
    images, activations = content
    whole = write(**_SHARED)
    folder = tmp_path / "elsewhere/selection"
    wanted = {**_SHARED, "images": "c", "image_size": list(_SIZE)}
    selected = write_selection(folder, whole, np.array([4, 1, 2]), {**wanted, "scales": [2.0, 1.0]})
    assert (len(selected), len(whole)) == (3, _ROWS)
    rows = np.array([2, 0])
    assert torch.equal(selected.images(rows), torch.from_numpy(images[[2, 4]]))
    low, high = selected.activations(rows)
    assert torch.equal(low, activations[0][[2, 4]] / 2)
    assert torch.equal(high, activations[1][[2, 4]])
    assert find_cache(folder, wanted) is not None
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "rows.npy"]


def test_a_selection_of_a_cache_that_changed_is_not_used(tmp_path, write):
    whole = write(**_SHARED)
    folder = tmp_path / "place" / "selection"
    write_selection(folder, whole, np.arange(2), {**_SHARED, "image_size": list(_SIZE), "scales": [1.0, 1.0]})
    write(**{**_SHARED, "images": "others"})
    assert find_cache(folder, _SHARED) is None
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)
