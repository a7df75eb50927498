"""The threshold comes from normal validation images, and every scored image is decided on."""

import io

import numpy as np
import pandas as pd
import pytest

from kdad.errors import InputError
from kdad.images.splits import Split
from kdad.scoring.decisions import decide


@pytest.fixture
def split():
    return Split(
        pd.DataFrame(
            {
                "id": list("abcdef"),
                "label": [0, 0, 0, 1, 0, 0],
                "kind": ["good", "good", "good", "hole", "good", "good"],
                "split": ["train", "validation", "test", "test", "validation", "validation"],
            }
        )
    )


def test_rows_keep_their_scores_and_the_threshold_is_of_held_out_images(split):
    table, threshold = decide(split, split.scored, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.9)
    assert table["id"].tolist() == ["b", "e", "f", "c", "d"]
    assert table["score"].tolist() == [1.0, 3.0, 2.0, 2.5, 9.0]
    assert threshold.value == 3.0  # the largest of 1, 2, 3: not of the test image's 9
    assert threshold.normal_images == 3
    assert table["decision"].tolist() == [0, 0, 0, 0, 1]
    assert (table["threshold"] == 3.0).all()


def test_a_score_that_is_the_threshold_is_normal(split):
    table, threshold = decide(split, split.scored, np.array([1.0, 2.0, 3.0, 3.0, np.nextafter(3.0, 4.0)]), 0.9)
    assert threshold.value == 3.0
    assert table["decision"].tolist() == [0, 0, 0, 0, 1]


def test_scores_of_32_bits_are_decided_on_as_they_are_written(split):
    scores = np.array([0.1, 0.2, 0.3, 0.3, 0.4], dtype=np.float32)
    table, threshold = decide(split, split.scored, scores, 0.9)
    assert threshold.value == float(np.float32(0.3))
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)), float_precision="round_trip")
    assert (again["score"] > again["threshold"]).astype(int).tolist() == table["decision"].tolist() == [0, 0, 0, 0, 1]


def test_a_test_image_does_not_move_the_threshold(split):
    first = decide(split, split.scored, np.array([1.0, 3.0, 2.0, 2.5, 9.0]), 0.5)[1]
    assert decide(split, split.scored, np.array([1.0, 3.0, 2.0, -7.0, 1e9]), 0.5)[1] == first


def test_no_held_out_image_is_an_error(split):
    with pytest.raises(InputError):
        decide(split, np.array([2, 3]), np.array([1.0, 2.0]), 0.95)
