"""A stack of maps is complete or not there."""

import numpy as np
import pytest

from kdad.scoring.map_stack import write_stack


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
