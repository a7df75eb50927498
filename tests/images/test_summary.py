"""What an image set was understood to be."""

import os
from pathlib import Path

from kdad.images.summary import check_images, summarise_set
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
