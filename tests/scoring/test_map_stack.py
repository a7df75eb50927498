"""A stack of maps is complete or not there."""

import numpy as np
import pytest
from scipy import ndimage

from kdad.scoring.map_stack import smooth_all, write_stack, write_stacks
from kdad.scoring.parameters import SmoothingParameters


def test_batches_are_stacked_in_order(tmp_path):
    maps = np.random.default_rng(0).random((5, 3, 4))
    stack = write_stack(tmp_path / "new" / "gradients.npy", maps.shape, (maps[i : i + 2] for i in (0, 2, 4)))
    assert stack.dtype == np.float32
    np.testing.assert_array_equal(stack, maps.astype(np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "gradients.npy"), stack)


def test_no_temporary_file_is_left(tmp_path):
    write_stack(tmp_path / "gradients.npy", (2, 3, 4), [np.zeros((2, 3, 4))])
    assert [path.name for path in tmp_path.iterdir()] == ["gradients.npy"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_the_older_stack_and_nothing_else(tmp_path, error):
    write_stack(tmp_path / "gradients.npy", (2, 3, 4), [np.ones((2, 3, 4))])

    def batches():
        yield np.zeros((1, 3, 4))
        raise error

    with pytest.raises(error):
        write_stack(tmp_path / "gradients.npy", (2, 3, 4), batches())
    assert [path.name for path in tmp_path.iterdir()] == ["gradients.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "gradients.npy"), 1)


def test_stacks_of_several_names_are_written_together(tmp_path):
    maps = np.random.default_rng(0).random((5, 3, 4)).astype(np.float32)
    batches = ({"one": maps[i : i + 2], "two": -maps[i : i + 2], "other": None} for i in (0, 2, 4))
    stacks = write_stacks(tmp_path, ["one", "two"], maps.shape, batches)
    assert list(stacks) == ["one", "two"]
    np.testing.assert_array_equal(stacks["one"], maps)
    np.testing.assert_array_equal(np.load(tmp_path / "two.npy"), -maps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]


def test_without_names_every_batch_is_still_made(tmp_path):
    made = []
    assert write_stacks(tmp_path, [], (2, 3, 4), (made.append(number) or {} for number in range(2))) == {}
    assert made == [0, 1]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_all_older_stacks(tmp_path, error):
    write_stacks(tmp_path, ["one", "two"], (2, 3, 4), [{"one": np.ones((2, 3, 4)), "two": np.full((2, 3, 4), 2)}])

    def batches():
        yield dict.fromkeys(["one", "two", "three"], np.zeros((1, 3, 4)))
        raise error

    with pytest.raises(error):
        write_stacks(tmp_path, ["one", "two", "three"], (2, 3, 4), batches())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]
    for name, value in (("one", 1), ("two", 2)):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), value)


def test_maps_that_lie_in_a_file_are_smoothed_and_stay_as_they_were(tmp_path):
    maps = np.random.default_rng(0).random((19, 12, 14), dtype=np.float32)
    stack = write_stack(tmp_path / "gradients.npy", maps.shape, [maps])
    smoothed = smooth_all(stack, SmoothingParameters(gaussian_sigma=1.5))
    np.testing.assert_allclose(smoothed, ndimage.gaussian_filter(maps, (0, 1.5, 1.5)), rtol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "gradients.npy"), maps)
