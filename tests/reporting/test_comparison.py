"""The page of two detectors: flips first, their maps side by side, and what the labels say."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.detectors.predictor import FilePrediction, Prediction
from kdad.reporting.predictions import ComparedPictures, draw_margins, render_comparison, say_comparison

#: Path, label, margins by A and B.
ROWS = [
    ("good/far.png", 0, -3.0, -0.5),
    ("bad/flip.png", 1, 0.1, -0.1),
    ("good/<wide> flip.png", 0, -1.0, 7.0),
    ("alike.png", None, -1.0, -1.0),
]
METRICS = {
    "images": 4,
    "unreadable": 1,
    "seen": 0,
    "flips": 2,
    "labelled": 3,
    "only_a_is_right": 2,
    "only_b_is_right": 0,
    "mcnemar_p_value": 0.5,
    "a": {"anomalous": 1, "false_alarms": 0, "missed": 0},
    "b": {"anomalous": 1, "false_alarms": 1, "missed": 1},
}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for path, label, a, b in ROWS:
        row = {"path": path, "label": label, "problem": None, "seen": "B" if path == "alike.png" else None}
        for name, margin in (("a", a), ("b", b)):
            row |= {f"score_{name}": margin + 2, f"margin_{name}": margin, f"decision_{name}": int(margin > 0)}
        rows.append(row)
    rows.append({"path": "cut.png", "label": 0, "problem": "cut <short>"})
    return pd.DataFrame(rows).astype({"label": "Int64", "decision_a": "Int64", "decision_b": "Int64"})


def pair(value: float) -> list[FilePrediction]:
    """Return one image by two detectors whose maps are `value` and 1 everywhere."""
    image = np.full((3, 40, 400), 0.5, dtype=np.float32)
    maps = [np.full((2, 2), one, dtype=np.float32) for one in (value, 1.0)]
    return [FilePrediction(Path("x"), image, Prediction(0, 0, False, 0, one), 1.0) for one in maps]


def consider(table: pd.DataFrame, most: int) -> ComparedPictures:
    pictures = ComparedPictures([(0.0, 1.0), None], most)
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        pictures.consider(row, pair(1.0))
    return pictures


def test_pictures_are_kept_of_flips_then_of_what_differs_most(table):
    assert [sorted(consider(table, most).by_row()) for most in (1, 2, 3, 9)] == [[2], [1, 2], [0, 1, 2], [0, 1, 2, 3]]


def test_pictures_are_small_heat_maps_by_each_detectors_own_colours(table):
    first, second = (np.asarray(Image.open(io.BytesIO(png))) for png in consider(table, 1).by_row()[2])
    assert first.shape == second.shape == (16, 160, 3)
    # 1 is the last colour of the limits 0 and 1, and the first of a map that is 1 everywhere.
    assert first[0, 0].mean() > second[0, 0].mean()


def test_the_page_shows_flips_first_and_what_is_right(table):
    page = render_comparison("Two & more", [("A", "x")], table, METRICS, consider(table, 2), True)
    names = re.findall(r'class="path"><span>(.*?)</span>(.*?)<(?:/td|small)>', page)
    assert names == [
        *[("good/", "&lt;wide&gt; flip.png"), ("bad/", "flip.png"), ("good/", "far.png"), ("", "alike.png")],
        ("", "cut.png"),
    ]
    rows = re.findall(r"<tr data-kind=.*?</tr>", page, re.DOTALL)
    assert [row.count("<img") for row in rows] == [2, 2, 0, 0, 0]
    assert [re.search(r'data-kind="(\w+)"', row)[1] for row in rows] == ["flip", "flip", "same", "same", "unreadable"]
    assert ["seen by B, not counted" in row for row in rows] == [False, False, False, True, False]
    assert ["A is right" in row for row in rows] == [True, True, False, False, False]
    assert "Two &amp; more" in page and "cut &lt;short&gt;" in page and "Pictures of the first 2 images" in page
    assert '<td class="score" data-value="7.0" data-name="margin B">+7<small>score 9</small>' in rows[0]
    assert not re.search(r'(src|href)="(?!data:)', page)  # it works offline, and alone


def test_the_statement_needs_labels_for_more_than_flips():
    assert say_comparison(METRICS) == (
        "2 of 4 images are decided differently. Of 3 labelled ones, A has 0 false alarms and misses 0; B has 1 false "
        "alarms and misses 1. Only A is right on 2, only B on 0: by McNemar's exact test, p = 0.5 if both are wrong "
        "equally often."
    )
    assert say_comparison(METRICS | {"labelled": 0}) == "2 of 4 images are decided differently."


def test_margins_are_drawn_by_label(table):
    (axes,) = draw_margins(table, True).axes
    points = {found.get_label(): found.get_offsets().tolist() for found in axes.collections}
    assert points == {
        "normal": [[-3.0, -0.5], [-1.0, 7.0]],
        "anomalous": [[0.1, -0.1]],
        "without label": [[-1.0, -1.0]],
    }
    (message,) = draw_margins(table.iloc[:0], True).axes
    assert not message.axison
