"""What the data report counts and warns of, worked out by hand."""

import numpy as np
import pandas as pd
from PIL import Image

from data_reports import data_report, image, images_table, mask
from kdad.images.checks import exact_pairs
from kdad.reporting.data_report import (
    count_rows,
    file_rows,
    mask_rows,
    order_pairs,
    outline,
    render_data_report,
    spaced_rows,
    warn_of,
)


def test_counts_by_part_and_kind():
    assert count_rows(images_table()) == [
        ["training", "good", "4", "0"],
        ["validation", "good", "2", "0"],
        ["test", "good", "1", "0"],
        ["test", "crack", "2", "2"],
    ]


def test_files_of_each_kind_side_by_side():
    assert file_rows(images_table()) == [
        ["good", "training", "png", "20 x 30", "L", "8-bit", "10", "213"],
        ["good", "validation", "png", "20 x 30", "L", "8-bit", "14", "215"],
        ["good", "test", "png", "20 x 30", "L", "8-bit", "16", "216"],
        ["crack", "test", "png", "20 x 30 (1), 40 x 30 (1)", "L (1), RGB (1)", "8-bit", "17", "218"],
    ]
    many = images_table().assign(id=[f"{number}.{ending}" for number, ending in enumerate("aaabbcdef")], kind="good")
    many = many.assign(split="train")
    assert file_rows(many)[0][2] == "a (3), b (2), c (1) and 3 more"


def test_masks_areas_at_the_models_size():
    # 1 and 101 pixels of 16 x 16: the median 51 is 19.92 %
    assert mask_rows(images_table(), (16, 16)) == [["crack", "2", "1", "51", "101", "19.92%"]]


def test_sets_without_files_or_masks_have_no_such_tables():
    plain = images_table().assign(height=None, low=None, mask_pixels=-1)
    assert file_rows(plain) == mask_rows(plain, (16, 16)) == []


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
    assert order_pairs(exact_pairs(table))[["first", "second"]].to_numpy().tolist() == [["c", "d"], ["a", "b"]]


def test_outlines_are_the_border_of_a_mask_of_any_size():
    mask = np.zeros((6, 6), bool)
    mask[1:4, 1:5] = True
    drawn = np.asarray(outline(Image.new("RGB", (6, 6)), mask))
    border = mask.copy()
    border[2, 2:4] = False
    assert ((drawn == (255, 64, 32)).all(-1) == border).all()
    assert (np.asarray(outline(Image.new("RGB", (12, 12)), mask))[2:8, 2:10] != 0).any(-1).sum() == 2 * (6 + 8) - 4


def test_of_very_many_images_a_page_shows_evenly_spaced_ones_of_each_part_and_kind():
    assert spaced_rows(pd.Index(range(3, 10)), 5000) == [3, 4, 5, 6, 7, 8, 9]
    every_fourth = spaced_rows(pd.Index(range(20_000)), 20_000)
    assert (len(every_fourth), every_fourth[0], every_fourth[-1]) == (5000, 0, 19_999)
    assert set(np.diff(every_fourth)) == {4, 5}  # 19,999 rows in 4,999 steps
    assert spaced_rows(pd.Index([7]), 1_000_000) == [7]


def test_what_deserves_a_look_is_said():
    assert warn_of(*(data_report()[name] for name in ("images", "pairs", "suspicious"))) == [
        "1 images are normal and, as the same file, anomalous",
        "2 images are in two parts as the same file: the test asks for what was learnt by heart",
        "1 normal images are unlike the others, and may be anomalous: train/good/3.png",
        "1 masks have 1 pixel or none at the model's size; raise dataset.image_size",
    ]
    clean = images_table().assign(fingerprint=list("abcdefghi"), mask_pixels=-1)
    assert warn_of(clean, exact_pairs(clean), np.empty(0, int)) == []


def test_labels_that_files_tell_are_said_on_the_page():
    told = images_table().assign(mode=["L"] * 7 + ["RGB"] * 2)
    told = pd.concat([told, told.iloc[[6]].assign(id="test/good/1.png")], ignore_index=True)
    assert warn_of(told, exact_pairs(told).head(0), np.empty(0, int))[0] == (
        "normal and anomalous test images differ by their mode: anomalous RGB, normal L; what is measured may be this"
    )


def test_the_page_escapes_names_and_shows_every_image_drawn_once():
    asked = []
    page = render_data_report(**data_report(), image=lambda row: asked.append(row) or image(row), mask=mask)
    assert "train/good/&lt;b&gt;&amp;.png" in page
    assert "<b>&" not in page
    assert sorted(asked) == list(range(9))
    # All of them, the suspicious one, and both sides of two pairs.
    assert page.count("<img") == page.count('loading="lazy"') == 9 + 1 + 4
    assert "good, 9.0" in page
