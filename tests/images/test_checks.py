"""What is said of an image set before training, and images that are there twice."""

import io
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import (
    THUMBNAIL_SIDE,
    across_parts,
    check_exact,
    check_images,
    contradicting,
    exact_pairs,
    near_pairs,
    say_pairs,
    summarise_set,
)
from layout_trees import numbered, open_set, write, write_all, write_mask


def test_counts_by_part_and_kind_and_every_decision(tmp_path):
    write_all(tmp_path, *numbered("train/OK", 10), *numbered("test/spot", 2), "test/dent/0.png")
    write_mask(tmp_path / "ground_truth/spot/000_mask.png")
    (tmp_path / "notes.txt").touch()
    images = open_set(tmp_path)
    check_images(images)
    understood = summarise_set(images)
    assert understood.title == f"Understood of folder / {tmp_path.name}"
    assert understood.table.to_dict("list") == {
        "part": ["train", "test", "test", "test"],
        "kind": ["good", "good", "dent", "spot"],
        "label": [0, 0, 1, 1],
        "images": [8, 2, 1, 2],
        "masks": [0, 0, 0, 1],
    }
    assert understood.facts() == [
        ("train", "8 images: 8 good"),
        ("test", "5 images: 2 good, 1 dent, 2 spot (1 with masks)"),
        ("layout", f"parts with kinds (as MVTec AD), in {tmp_path}"),
        ("taken as normal", "10 by 'OK'"),
        ("taken as anomalous", "2 by 'spot', 1 by 'dent'"),
        ("note", "the test has no normal images, so 2 of the training images are kept for it"),
        ("not used", "1 x no image (.txt), such as notes.txt"),
        ("masks", "matched for 1 of 3 anomalous images; 2 have none, and are left out of pixel metrics"),
    ]


def test_parts_are_in_their_order_whatever_folders_are_called(tmp_path):
    write_all(tmp_path, *numbered("bad", 2), *numbered("good", 10))
    assert [part for part, _ in summarise_set(open_set(tmp_path)).facts()[:2]] == ["train", "test"]


def test_names_that_are_no_text_become_ids_that_are(tmp_path):
    write_all(tmp_path, *numbered("good", 3))
    write(tmp_path / "good" / "a\nb.png")
    write(Path(os.fsdecode(os.fsencode(tmp_path / "good") + b"/Teil_gr\xfcn.png")))
    ids = {sample.id for sample in open_set(tmp_path).samples}
    assert {"good/a\\nb.png", "good/Teil_gr\\xfcn.png"} <= ids
    for name in ids:
        name.encode()


def table_of(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Return a split table of rows (id, kind, split, fingerprint)."""
    return pd.DataFrame(rows, columns=["id", "kind", "split", "fingerprint"])


TABLE = table_of(
    ("a", "good", "train", "1"),
    ("b", "good", "validation", "2"),
    ("c", "good", "train", "1"),
    ("d", "good", "test", "1"),
    ("e", "crack", "test", "2"),
    ("f", "crack", "test", "3"),
)


def ids(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(pairs[["first", "second"]].itertuples(index=False, name=None))


def test_each_copy_is_paired_with_the_first_of_its_kind():
    pairs = exact_pairs(TABLE)
    assert ids(pairs) == [("a", "c"), ("a", "d"), ("b", "e")]
    assert set(pairs["how"]) == {"exact"}
    assert ids(across_parts(pairs)) == [("a", "d"), ("b", "e")]
    assert ids(contradicting(pairs)) == [("b", "e")]


def test_what_is_said_names_parts_and_images():
    assert say_pairs(exact_pairs(TABLE)) == [
        "1 images are both normal and anomalous, being the same file: b = e",
        "1 test images are the same file as training ones: a = d",
        "1 test images are the same file as validation ones: b = e",
        "1 images are the same file as another of their own part",
    ]
    assert say_pairs(exact_pairs(TABLE.iloc[[0, 5]].reset_index(drop=True))) == []


def test_duplicates_are_a_warning_or_refused(caplog):
    with caplog.at_level(logging.INFO, logger="kdad"):
        check_exact(TABLE, "warn")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "a = d" in record.getMessage()
    assert "dataset.duplicates=refuse" in record.getMessage()
    with pytest.raises(InputError, match=r"(?s)remove one of each pair:.*a = d"):
        check_exact(TABLE, "refuse")


def test_copies_within_a_part_are_said_and_never_refused(caplog):
    copies = TABLE.iloc[[0, 2, 5]].reset_index(drop=True)
    with caplog.at_level(logging.INFO, logger="kdad"):
        check_exact(copies, "refuse")
        check_exact(copies.iloc[[0, 2]].reset_index(drop=True), "refuse")
    assert [
        (record.levelname, "1 images are the same file as another" in record.getMessage()) for record in caplog.records
    ] == [("INFO", True)]


def test_of_many_pairs_ten_are_named():
    rows = [(f"{part}{number}", "good", part, str(number)) for part in ("train", "test") for number in range(12)]
    (said,) = say_pairs(exact_pairs(table_of(*rows)))
    assert said.startswith("12 test images are the same file as training ones: train0 = test0, ")
    assert said.endswith("train9 = test9 and 2 more")


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Return stripes that are all alike but for noise, as parts before one camera are; `(N, 64, 64)`, uint8."""
    stripes = 130 + 40 * np.sin(np.arange(64) / 2.5)
    noise = np.random.default_rng(seed).normal(0, 8, (count, 64, 64))
    return (stripes + noise).clip(0, 255).astype(np.uint8)


def thumbnails_of(images: np.ndarray) -> np.ndarray:
    step = images.shape[1] // THUMBNAIL_SIDE
    cells = images.reshape(len(images), THUMBNAIL_SIDE, step, THUMBNAIL_SIDE, step)
    return cells.mean(axis=(2, 4), dtype=np.float32) / 255


def recompressed(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=80)
    return np.asarray(Image.open(buffer))


def test_a_recompressed_and_a_brightened_copy_are_near_and_alike_parts_are_not():
    images = pictures(30)
    copies = np.stack([recompressed(images[3]), images[7] + 10])
    rows = [(str(row), "good", "train" if row < 30 else "test", str(row)) for row in range(32)]
    pairs = near_pairs(table_of(*rows), thumbnails_of(np.concatenate([images, copies])))
    assert ids(pairs) == [("3", "30"), ("7", "31")]
    assert set(pairs["how"]) == {"near"}
    assert len(across_parts(pairs)) == 2
    assert "nearly the same picture" in say_pairs(pairs)[0]


def test_the_same_file_is_not_told_again_as_a_near_one():
    images = pictures(10)[[*range(10), 4]]
    rows = [(str(row), "good", "train", str(row if row < 10 else 4)) for row in range(11)]
    assert near_pairs(table_of(*rows), thumbnails_of(images)).empty


def test_blocks_of_rows_are_compared_with_all(monkeypatch):
    monkeypatch.setattr("kdad.images.checks._BLOCK", 7)
    images = np.concatenate([pictures(20), pictures(20)[[2, 19]] + 1])
    rows = [(str(row), "good", "train", str(row)) for row in range(22)]
    assert ids(near_pairs(table_of(*rows), thumbnails_of(images))) == [("2", "20"), ("19", "21")]


def test_categories_of_a_united_set_are_compared_apart():
    of_b = thumbnails_of(pictures(4, seed=1)) / 20  # as unlike each other as those of a, on a smaller scale
    thumbnails = np.concatenate([thumbnails_of(pictures(30)), of_b])
    rows = [(str(row), "good", "train", str(row)) for row in range(34)]
    table = table_of(*rows)
    assert len(near_pairs(table, thumbnails)) == 6  # every pair of b
    assert near_pairs(table.assign(member=["a"] * 30 + ["b"] * 4), thumbnails).empty


def test_two_images_or_too_many_are_not_compared(monkeypatch):
    rows = [(str(row), "good", "train", str(row)) for row in range(4)]
    same = thumbnails_of(pictures(1)[[0, 0, 0, 0]])
    assert near_pairs(table_of(*rows[:2]), same[:2]).empty
    monkeypatch.setattr("kdad.images.checks.MOST_COMPARED", 3)
    assert near_pairs(table_of(*rows), same).empty
