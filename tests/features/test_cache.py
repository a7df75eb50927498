"""What is written to the cache is what comes back, and nothing damaged is used."""

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.features.cache import (
    Storage,
    needed_bytes,
    open_cache,
    overall_sd,
    write_cache,
    write_selection,
    write_statistics,
)
from kdad.networks.source import CriticalPoint

_VALUES = torch.tensor([0.0, 1.0, -2.5, 3.14159265, 1e-3, 60000.0]).reshape(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("outputs", "type_", "bits"), [("float32", np.float32, 24), ("float16", np.float16, 11), ("bfloat16", np.uint16, 8)]
)
def test_outputs_come_back_to_the_bits_of_their_format(outputs, type_, bits):
    storage = Storage(outputs)
    kept = storage.write_outputs(_VALUES, "pool2")
    assert kept.dtype == type_ == storage.types[0]
    found = storage.read_outputs(kept)
    assert found.dtype == torch.float32
    # Rounding to b significant bits is off by half of 2^(1 - b) at the most.
    assert torch.allclose(found, _VALUES, rtol=2.0**-bits, atol=1e-12)
    assert torch.equal(found, _VALUES) == (outputs == "float32")


def test_what_float16_cannot_hold_names_the_point_and_the_other_format():
    with pytest.raises(InputError, match=r"activations of pool3.*largest is 7e\+04.*features.outputs_on_disk=bfloat16"):
        Storage("float16").write_outputs(torch.tensor([70000.0]), "pool3")
    assert (
        Storage("bfloat16").read_outputs(Storage("bfloat16").write_outputs(torch.tensor([65536.0]), "pool3")) == 65536
    )


@pytest.mark.parametrize(("images", "bound"), [("float32", 0.0), ("float16", 2.0**-11), ("uint8", 0.5 / 255)])
def test_images_come_back_within_a_rounding(images, bound):
    given = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    storage = Storage(images=images)
    found = storage.read_images(storage.write_images(given))
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - given).max() <= bound + 1e-7
    exact = np.array([0, 17, 128, 255], np.float32) / 255  # grey values of 8 bits
    again = storage.read_images(storage.write_images(exact)).numpy()
    assert np.allclose(again, exact, rtol=0, atol=bound if images == "float16" else 1e-7)


def test_a_cache_as_before_is_named_as_before():
    assert Storage().named() == {}
    assert Storage("auto", "uint8").named() == {"storage": {"outputs": "auto", "images": "uint8"}}


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"dtype": "float32"}, ("float32", "float32")),
        ({"dtype": "bfloat16"}, ("bfloat16", "float32")),
        ({"dtype": "bfloat16", "storage": {"outputs": "auto", "images": "uint8"}}, ("bfloat16", "uint8")),
        ({"dtype": "bfloat16", "storage": {"outputs": "float32", "images": "float16"}}, ("float32", "float16")),
    ],
)
def test_the_format_of_a_cache_is_that_of_its_manifest(manifest, expected):
    found = Storage.of(manifest)
    assert (found.outputs, found.images) == expected


_POINTS = [CriticalPoint("low", 4, 3, 5, signed=True), CriticalPoint("high", 2, 1, 2, signed=False)]
_SIZE = (6, 10)
_ROWS = 5
_Usage = namedtuple("_Usage", "total used free")


@pytest.fixture
def content() -> tuple[np.ndarray, list[torch.Tensor]]:
    """Five non-square images and the outputs of a network at two critical points."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(_ROWS, 3, *_SIZE, generator=generator).numpy()
    return images, [torch.randn(_ROWS, p.channels, p.height, p.width, generator=generator) for p in _POINTS]


@pytest.fixture
def write(tmp_path, content):
    """Write the content to ``cache`` two rows at a time, and open it; `error` is raised before the first batch."""

    def _write(dtype="float32", error=None, **manifest):
        images, outputs = content
        measured = {}

        def batches():
            if error is not None:
                raise error
            for start in range(0, _ROWS, 2):
                rows = slice(start, start + 2)
                yield images[rows], [output[rows] for output in outputs]
            measured["statistics"] = [{"mean": [1.0], "sd": [2.0]}] * 2

        complete = {"image_size": list(_SIZE), "dtype": dtype, "count": _ROWS, **manifest}
        folder = tmp_path / "place" / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        write_cache(folder, complete, _POINTS, batches(), measured)
        return open_cache(folder)

    return _write


def test_rows_come_back_as_they_were_written_in_any_order(write, content):
    images, outputs = content
    cache = write()
    rows = np.array([4, 0, 3])
    assert torch.equal(cache.images(rows), torch.from_numpy(images[rows]))
    for found, expected in zip(cache.outputs(rows), outputs, strict=True):
        assert torch.equal(found, expected[rows])
        assert found.dtype == torch.float32
    assert (cache.size, cache.names, cache.points, len(cache)) == (_SIZE, ("low", "high"), _POINTS, _ROWS)
    assert cache.kept


@pytest.mark.parametrize(("outputs", "images", "size"), [("float16", "uint8", (2, 1)), ("float32", "float16", (4, 2))])
def test_a_cache_keeps_the_formats_that_it_was_asked_for(write, content, outputs, images, size):
    cache = write(storage={"outputs": outputs, "images": images}, dtype="bfloat16")
    rows = np.array([1, 4])
    assert torch.allclose(cache.images(rows), torch.from_numpy(content[0][rows]), atol=1 / 255)
    for found, expected in zip(cache.outputs(rows), content[1], strict=True):
        assert torch.allclose(found, expected[rows], rtol=1e-3)
    values = 4 * 3 * 5 + 2 * 1 * 2  # of the two points
    assert needed_bytes(_POINTS, cache.manifest) == _ROWS * (values * size[0] + 3 * 6 * 10 * size[1])
    on_disk = sum(array.nbytes for array in (cache.pixels, *cache.arrays))
    assert on_disk == needed_bytes(_POINTS, cache.manifest)


def test_what_was_measured_on_the_way_is_in_the_manifest(write):
    assert write().statistics == [{"mean": [1.0], "sd": [2.0]}] * 2


def test_the_identity_is_what_was_wanted_without_what_was_measured(write):
    wanted = {"image_size": list(_SIZE), "dtype": "float32", "count": _ROWS, "network": {"name": "vgg16"}}
    assert write(network={"name": "vgg16"}).identity == wanted


def test_the_overall_sd_is_that_of_all_values_together():
    values = np.random.default_rng(0).normal([1.0, 5.0, -2.0], [0.1, 3.0, 2.0], (1000, 3))
    statistics = {"mean": values.mean(0).tolist(), "sd": values.std(0).tolist()}
    assert overall_sd(statistics) == pytest.approx(values.std(), rel=1e-12)


def test_a_constant_output_has_the_overall_sd_1_so_that_it_can_divide():
    assert overall_sd({"mean": [3.0, 3.0], "sd": [0.0, 0.0]}) == 1.0


def test_bfloat16_storage_keeps_bfloat16_exactly_and_halves_the_files(write, content):
    outputs = content[1]
    full = write("float32").folder / "low.npy"
    bytes_full = full.stat().st_size - 128  # the header of .npy
    cache = write("bfloat16")
    assert (cache.folder / "low.npy").stat().st_size - 128 == bytes_full / 2
    for found, expected in zip(cache.outputs(np.arange(_ROWS)), outputs, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected.to(torch.bfloat16).float())
    assert cache.images(np.arange(2)).dtype == torch.float32


def test_arrays_are_channels_last_on_disk(write, content):
    stored = np.load(write().folder / "low.npy")
    np.testing.assert_array_equal(stored, content[1][0].permute(0, 2, 3, 1).numpy())


def test_no_cache_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none' is missing or damaged; delete it and run the pipeline again"):
        open_cache(tmp_path / "none")


@pytest.mark.parametrize("file_name", ["images.npy", "low.npy", "high.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_cache_is_never_used(write, file_name, damage):
    folder = write().folder
    path = folder / file_name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-10], "garbage": b"\xff" * len(content)}[damage])
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)


def test_a_manifest_of_another_form_is_damage(write):
    folder = write().folder
    (folder / "manifest.json").write_text(json.dumps(["no", "manifest"]))
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)


def test_too_small_a_disk_is_an_input_error_before_the_first_batch(monkeypatch, write):
    # float32: (4*3*5 + 2*1*2 + 3*6*10) * 4 bytes * 5 images = 4880 bytes, of which 95 % of the disk may be taken
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 5136))
    with pytest.raises(InputError, match=r"the feature cache needs .* GB in '.*place'"):
        write(error=AssertionError)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 5137))
    assert write().kept


def test_outputs_that_are_not_kept_leave_shapes_and_statistics(tmp_path):
    manifest = {"image_size": list(_SIZE), "dtype": "float32", "count": 3, "statistics": [{"mean": [0], "sd": [1]}] * 2}
    write_statistics(tmp_path, manifest, _POINTS)
    cache = open_cache(tmp_path)
    assert not cache.kept
    assert (cache.points, len(cache), cache.statistics) == (_POINTS, 3, manifest["statistics"])
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def _select(folder, whole, rows, **manifest):
    folder.mkdir(parents=True)
    wanted = {"image_size": list(_SIZE), "dtype": "float32", "count": len(rows), **manifest}
    write_selection(folder, whole, rows, wanted)


def test_a_selection_gives_the_rows_it_names_with_its_own_statistics(tmp_path, write, content):
    images, outputs = content
    whole, folder = write(), tmp_path / "elsewhere/selection"
    _select(folder, whole, np.array([4, 1, 2]), statistics=[{"mean": [7.0], "sd": [8.0]}] * 2)
    selected = open_cache(folder)
    assert (len(selected), len(whole), selected.kept) == (3, _ROWS, True)
    rows = np.array([2, 0])
    assert torch.equal(selected.images(rows), torch.from_numpy(images[[2, 4]]))
    for found, expected in zip(selected.outputs(rows), outputs, strict=True):
        assert torch.equal(found, expected[[2, 4]])
    assert selected.statistics == [{"mean": [7.0], "sd": [8.0]}] * 2
    assert selected.points == _POINTS
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "rows.npy"]


def test_a_selection_is_known_by_what_it_is_of_and_not_by_where_the_whole_lies(tmp_path, write):
    _select(tmp_path / "elsewhere/selection", write(), np.arange(2), images="these")
    assert open_cache(tmp_path / "elsewhere/selection").identity == {
        "image_size": list(_SIZE), "dtype": "float32", "count": 2, "images": "these",
    }  # fmt: skip


def test_a_selection_of_a_cache_that_changed_is_not_used(tmp_path, write):
    folder = tmp_path / "place" / "selection"
    _select(folder, write(images="a"), np.arange(2))
    write(images="others")
    with pytest.raises(InputError, match="missing or damaged"):
        open_cache(folder)
