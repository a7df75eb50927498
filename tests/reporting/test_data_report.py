"""What the data report counts and warns of, worked out by hand."""

import numpy as np
import pandas as pd

from data_reports import data_report, image, images_table
from kdad.images.checks import exact_pairs
from kdad.reporting.data_report import (
    count_rows,
    mask_rows,
    pair_rows,
    range_rows,
    render_data_report,
    sheet_rows,
    type_rows,
    warn_of,
)


def test_counts_by_part_and_kind():
    assert count_rows(images_table()) == [
        ["training", "good", "4", "0"],
        ["validation", "good", "2", "0"],
        ["test", "good", "1", "0"],
        ["test", "crack", "2", "2"],
    ]


def test_sizes_and_types_the_commonest_first():
    assert type_rows(images_table()) == [
        ["20 x 30", "L", "8-bit", "training", "4"],
        ["20 x 30", "L", "8-bit", "validation", "2"],
        ["20 x 30", "L", "8-bit", "test", "2"],
        ["40 x 30", "RGB", "8-bit", "test", "1"],
    ]


def test_ranges_by_part_and_kind():
    assert range_rows(images_table()) == [
        ["training", "good", "10", "213", "4"],
        ["validation", "good", "14", "215", "2"],
        ["test", "good", "16", "216", "1"],
        ["test", "crack", "17", "218", "2"],
    ]


def test_masks_areas_at_the_models_size():
    # 1 and 101 pixels of 16 x 16: the median 51 is 19.92 %
    assert mask_rows(images_table(), (16, 16)) == [["crack", "2", "1", "51", "101", "19.92%"]]


def test_sets_without_files_or_masks_have_no_such_tables():
    plain = images_table().assign(height=None, low=None, mask_pixels=-1)
    assert type_rows(plain) == range_rows(plain) == mask_rows(plain, (16, 16)) == []


def test_pairs_in_two_parts_come_first():
    table = pd.DataFrame(
        [
            ("a", "good", "train", "1"),
            ("b", "good", "train", "1"),
            ("c", "good", "train", "2"),
            ("d", "good", "test", "2"),
        ],
        columns=["id", "kind", "split", "fingerprint"],
    )
    assert pair_rows(exact_pairs(table)) == [
        ["exact", "c", "training", "d", "test"],
        ["exact", "a", "training", "b", "training"],
    ]


def test_up_to_six_evenly_spaced_images_of_each_part_and_kind():
    images = pd.DataFrame({"split": ["train"] * 11 + ["test"] * 2, "kind": "good"})
    assert sheet_rows(images) == [0, 2, 4, 6, 8, 10, 11, 12]


def test_what_deserves_a_look_is_said():
    assert warn_of(*(data_report()[name] for name in ("images", "pairs", "suspicious"))) == [
        "1 images are normal and, as the same file, anomalous",
        "2 images are in two parts as the same file: the test asks for what was learnt by heart",
        "1 normal images are unlike the others, and may be anomalous: train/good/3.png",
        "1 masks have 1 pixel or none at the model's size; raise dataset.image_size",
    ]
    clean = images_table().assign(fingerprint=list("abcdefghi"), mask_pixels=-1)
    assert warn_of(clean, exact_pairs(clean), np.empty(0, int)) == []


def test_the_page_escapes_names_and_shows_few_images():
    asked = []
    page = render_data_report(**data_report(), image=lambda row: asked.append(row) or image(row))
    assert "train/good/&lt;b&gt;&amp;.png" in page
    assert "<b>&" not in page
    assert sorted(asked) == sorted([3, *range(9)])  # the suspicious one, and all of these few on the sheet
    assert page.count("<img") == 10
    assert "9.0" in page
