import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from kdad.reporting.console import console_table, frame_table, numbers_table, said
from kdad.scoring.threshold import quantile_threshold


def table_text(table) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (1.0, "1"), (3, "3"), (None, "-"), (math.nan, "-"), (pd.NA, "-"), (True, "yes"), ("a", "a")],
)
def test_values_as_tables_show_them(value, text):
    assert said(value) == text


def test_columns_come_in_the_order_of_their_headings_as_far_as_there_are_any():
    table = frame_table("Title", pd.DataFrame({"b": [0.5], "a": ["x"], "c": [1]}), {"a": "name", "b": "rate", "d": "?"})
    assert [column.header for column in table.columns] == ["name", "rate"]
    assert [column.justify for column in table.columns] == ["left", "right"]
    assert [list(column.cells) for column in table.columns] == [["x"], ["0.5"]]


def test_of_very_many_rows_the_first_are_shown():
    table = frame_table("Title", pd.DataFrame({"row": range(61)}), {"row": "row"})
    assert list(table.columns[0].cells) == [str(row) for row in range(60)]
    assert table.caption == "the first 60 of 61 rows"


def test_a_title_is_not_wrapped_to_the_width_of_numbers():
    title = "a title that is wider than its table"
    assert title in table_text(numbers_table(title, {"fit_seconds": 3})).splitlines()[0]


DETECTION = {
    "image_auroc": 0.98765,
    "image_ap": 0.9,
    "image_f1_max": 0.8,
    "image_auroc_low": 0.95,
    "image_auroc_high": 1.0,
}
HEAD = {"dataset": "textures", "category": "brick", "source": "vgg16", "seed": 3}


def rendered(metrics: dict) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(console_table(metrics))
    return console.export_text()


def test_table_shows_detection_and_each_method():
    found = {"pixel_auroc": 0.91234, "pixel_ap": 0.5, "pro_auc": 0.7, "pixel_auroc_mkd_protocol": 0.6}
    text = rendered({**HEAD, **DETECTION, "localisation": {"discrepancy": found}, "localisation_left_out": None})
    assert "textures / brick, vgg16, seed 3" in text
    assert "0.9877" in text
    assert "0.950 to 1.000" in text
    assert "0.9123" in text


def test_kinds_are_listed_those_that_are_missed_most_first():
    kinds = {
        "dent": {"images": 4, "found": 4, "image_auroc": 1.0, "pro_auc": 0.75},
        "hole": {"images": 8, "found": 2, "image_auroc": 0.625, "pro_auc": None},
    }
    base = {**HEAD, **DETECTION, "localisation": {}, "localisation_left_out": None}
    text = rendered({**base, "by_kind": kinds})
    assert text.index("hole") < text.index("dent")
    assert "2 of 8" in text
    assert "0.6250" in text
    assert "0.7500" in text
    decided_on = {**base, **decided(19, 3 / 60, 5 / 6), "by_kind": kinds}
    lines = [" ".join(line.replace("│", " ").split()) for line in rendered(decided_on).splitlines()]
    assert "(normal) 3 of 60" in lines
    assert (
        lines.index("hole 2 of 8 0.6250 -") < lines.index("dent 4 of 4 1.0000 0.7500") < lines.index("(normal) 3 of 60")
    )
    assert "remark: most images are missed of 1 of the 2 kinds of defects: hole (2 of 8 found)" in " ".join(lines)
    assert "hole" not in rendered({**base, "by_kind": {"hole": kinds["hole"]}})  # one kind is the whole


def test_of_what_cannot_be_measured_there_is_no_table_but_the_reason():
    missing = dict.fromkeys(["pixel_auroc", "pixel_ap", "pro_auc", "pixel_auroc_mkd_protocol"])
    none = dict.fromkeys(DETECTION)
    text = rendered({**HEAD, **none, "localisation": {"discrepancy": missing}, "localisation_left_out": "no masks"})
    assert "no masks" in text
    assert "0." not in text
    assert "textures / brick, vgg16, seed 3\nno ranking: that takes normal and anomalous test images" in text
    assert "\u2502" not in text  # no cell
    ranked = rendered(
        {**HEAD, **DETECTION, "localisation": {"discrepancy": missing}, "localisation_left_out": "no masks"}
    )
    assert "discrepancy" not in ranked
    assert "0.9877" in ranked
    kinds = {kind: {"images": 1, "found": 1, "image_auroc": None, "pro_auc": None} for kind in ("dent", "hole")}
    found = {**HEAD, **DETECTION, "localisation": {}, "localisation_left_out": None, "by_kind": kinds}
    normal_only = dict.fromkeys(DETECTION) | decided(19, 3 / 60, 0.5) | {"true_positive_rate": None}
    shown = rendered(found | {"categories": {"brick": DETECTION}} | normal_only)
    assert " - " not in shown
    assert "1.0000" in rendered(found | {"image_auroc": 1.0})


def decided(count: int, false: float, true: float) -> dict:
    """Return what metrics say of a threshold on `count` validation images, of 60 normal and 6 anomalous test images."""
    return {
        "threshold": quantile_threshold(np.arange(float(count)), 0.95).model_dump(),
        "false_positive_rate": false,
        "true_positive_rate": true,
        "test_normal": 60,
        "test_anomalous": 6,
    }


def test_table_shows_threshold_promise_and_what_came_of_it():
    metrics = {**HEAD, **DETECTION, "localisation": {}, "localisation_left_out": None, **decided(19, 3 / 60, 5 / 6)}
    lines = {" ".join(line.replace("│", " ").split()) for line in rendered(metrics).splitlines()}
    assert "false positives promised 5.0 %" in lines
    # The largest of 19 is exceeded at a rate p with (1 - p)^19 = 0.975 and 0.025: 0.13 % and 17.65 %.
    assert "95 % interval 0.1 to 17.6 %" in lines
    assert {"threshold 18", "by normal images 19"} <= lines
    assert {"false positives observed 3 of 60 (5.0 %)", "anomalous images found 5 of 6 (83.3 %)"} <= lines
    assert not [line for line in lines if line.startswith("remark")]


def test_groups_that_are_decided_on_stand_beside_the_images():
    metrics = {**HEAD, **DETECTION, "localisation": {}, "localisation_left_out": None, **decided(19, 3 / 60, 5 / 6)}
    groups = np.repeat(np.arange(20), 3).astype(str)
    metrics["threshold"] = quantile_threshold(np.arange(60.0), 0.95, groups, "mean").model_dump()
    metrics |= {"group_false_positive_rate": 0.1, "test_normal_groups": 20, "group_true_positive_rate": 0.5}
    metrics |= {"test_anomalous_groups": 2, "group_auroc": 0.9, "group_auroc_low": 0.8, "group_auroc_high": 1.0}
    lines = {" ".join(line.replace("│", " ").split()) for line in rendered(metrics).splitlines()}
    assert {"by groups 2 of 20 (10.0 %)", "anomalous groups found 1 of 2 (50.0 %)"} <= lines
    # The last of 20 means, of 57, 58 and 59.
    assert {"groups' threshold 58, of the mean of their images", "group AUROC 0.9000 (0.800 to 1.000)"} <= lines


def test_what_is_odd_about_the_threshold_is_said_in_the_table():
    metrics = {**HEAD, **DETECTION, "localisation": {}, "localisation_left_out": "no masks", **decided(19, 0.0, 0.0)}
    text = " ".join(rendered(metrics).split())
    assert "pixel metrics left out: no masks" in text
    assert "remark: images are ranked well (AUROC 0.988), but the threshold finds 0 of 6 (0.0 %)" in text


def test_what_is_left_out_alone_is_said():
    found = {"pixel_auroc": 0.9, "pixel_ap": 0.5, "pro_auc": 0.7, "pixel_auroc_mkd_protocol": None}
    said = {
        "localisation_left_out": None,
        "metrics_left_out": "pixel_auroc_mkd_protocol: no normal pixel",
        "anomalous_images_without_mask": 2,
        "anomalous_images_with_empty_mask": 1,
    }
    text = rendered({**HEAD, **DETECTION, "localisation": {"discrepancy": found}, **said})
    assert "left out: pixel_auroc_mkd_protocol: no normal pixel" in text
    words = " ".join(text.split())
    assert "2 anomalous images have no mask" in words
    assert "1 anomalous images have an empty mask" in words
