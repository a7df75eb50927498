"""The threshold comes from held-out normal images, and every scored image is decided on."""

import numpy as np
import pandas as pd
import pytest

from kdad.errors import InputError
from kdad.scoring.decisions import decide


@pytest.fixture
def split_table():
    return pd.DataFrame(
        {
            "id": list("abcdef"),
            "label": [0, 0, 0, 1, 0, 0],
            "kind": ["good", "good", "good", "hole", "good", "good"],
            "split": ["train", "validation", "test", "test", "validation", "validation"],
        }
    )


def test_rows_keep_their_scores_and_the_threshold_is_of_held_out_images(split_table):
    rows = np.array([1, 4, 5, 2, 3])
    table, threshold = decide(split_table, rows, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.9)
    assert table["id"].tolist() == ["b", "e", "f", "c", "d"]
    assert threshold["value"] == 3.0  # the largest of 1, 2, 3: not of the test image's 9
    assert threshold["held_out_images"] == 3
    assert table["decision"].tolist() == [0, 0, 0, 0, 1]
    assert (table["threshold"] == 3.0).all()


def test_a_test_image_does_not_move_the_threshold(split_table):
    rows = np.array([1, 4, 5, 2, 3])
    first = decide(split_table, rows, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.5)[1]
    assert decide(split_table, rows, np.array([1.0, 3.0, 2.0, -7.0, 1e9]), 0.5)[1] == first


def test_no_held_out_image_is_an_error(split_table):
    with pytest.raises(InputError):
        decide(split_table, np.array([2, 3]), np.array([1.0, 2.0]), 0.95)
