"""The nodes of ingestion on small sets."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.detectors.uninformed_students.parameters import StudentParameters, TeacherParameters
from kdad.errors import InputError
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.ingestion.nodes import (
    report_images,
    sample_teacher_patches,
    split_images,
    validate_images,
)

TEXTURES = DatasetParameters(
    name="textures",
    category="brick",
    image_size=32,
    textures={"train_images": 6, "validation_images": 2, "test_normal": 1, "test_per_defect": 1},
)


@pytest.fixture
def folder(tmp_path) -> DatasetParameters:
    """Six constant good images of value 0, 10, .., 50 and one white torn one."""
    for name, value in [(f"good/{number}", 10 * number) for number in range(6)] + [("torn/0", 255)]:
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16), value, dtype=np.uint8)).save(path)
    return DatasetParameters(name="folder", root=str(tmp_path), image_size=16, validation_fraction=0.2)


def table_of(dataset: DatasetParameters) -> pd.DataFrame:
    return validate_images(open_image_set(dataset))


def test_textures_keep_their_own_validation_part():
    table = table_of(TEXTURES)
    own = ["id", "label", "kind", "subset", "has_mask", "fingerprint"]
    facts = ["height", "width", "mode", "values", "frames", "deep", "low", "high", "two_values", "clear", "damaged"]
    assert list(table.columns) == [*own, *facts]
    assert table["height"].isna().all()  # they lie in no file each
    split = split_images(table, TEXTURES, 0)
    assert list(split.columns) == ["id", "label", "kind", "split", "has_mask", "fingerprint"]
    assert split["split"].tolist() == table["subset"].tolist()
    assert split["split"].value_counts().to_dict() == {"train": 6, "validation": 2, "test": 6}
    assert split["has_mask"].tolist() == [False] * 9 + [True] * 5
    assert split["fingerprint"].is_unique
    assert split_images(table, TEXTURES, 1).equals(split)


def test_facts_of_files_are_listed(folder, caplog):
    with caplog.at_level(logging.INFO, logger="kdad"):
        table = table_of(folder)
    first = table.iloc[0]
    assert (first["height"], first["width"], first["mode"], first["values"], first["frames"]) == (
        16,
        16,
        "L",
        "8-bit",
        1,
    )
    assert (first["low"], first["high"]) == (0, 0)
    assert "8-bit values, of which training images use" in caplog.text


def test_an_image_that_is_also_in_the_test_is_named_before_training(folder, tmp_path, caplog):
    shutil.copy(tmp_path / "good/2.png", tmp_path / "torn/1.png")
    table = table_of(folder)
    with caplog.at_level(logging.WARNING, logger="kdad"):
        split_images(table, folder, 0)
    assert "both normal and anomalous, being the same file: good/2.png = torn/1.png" in caplog.text
    with pytest.raises(InputError, match=r"good/2\.png = torn/1\.png"):
        split_images(table, folder.model_copy(update={"duplicates": "refuse"}), 0)


def test_the_data_report_lists_every_image_and_what_is_there_twice(folder, tmp_path):
    shutil.copy(tmp_path / "good/2.png", tmp_path / "torn/1.png")
    table = table_of(folder)
    split, features = split_images(table, folder, 0), {"source": SimpleNamespace(means=np.eye(8, 2))}
    page, images, pairs = report_images(open_image_set(folder), table, split, features, folder)
    assert len(images) == 8
    assert images["mask_pixels"].eq(-1).all()
    assert pairs[["how", "first", "second"]].values.tolist() == [["exact", "good/2.png", "torn/1.png"]]
    assert "1 images are normal and, as the same file, anomalous" in page
    assert "16 x 16" in page
    assert "6 by &#39;good&#39;" in page  # what was understood
    assert "none for 2 anomalous images" in page


def test_folder_is_split_by_seed(folder):
    table = table_of(folder)
    splits = [split_images(table, folder, seed) for seed in (0, 0, 1, 2, 3)]
    assert splits[0].equals(splits[1])
    assert len({tuple(split["split"]) for split in splits}) > 1
    # a fifth of 6 images is for the test (1), a fifth of the other 5 held out (1)
    assert splits[0]["split"].value_counts().to_dict() == {"train": 4, "test": 2, "validation": 1}


def test_split_survives_a_csv_file(folder, tmp_path):
    table = table_of(folder)
    table.to_csv(tmp_path / "images.csv", index=False)
    assert split_images(pd.read_csv(tmp_path / "images.csv"), folder, 0).equals(split_images(table, folder, 0))


@pytest.mark.parametrize(
    "counts",
    [
        {"distillation": "patches", "patches_per_epoch": 3, "validation_patches": 2},
        {
            "distillation": "dense",
            "dense": {"crop_size": 33, "crops_per_epoch": 3, "validation_crops": 2, "training": {"epochs": 4}},
        },
    ],
)
def test_patches_are_of_natural_images_for_every_receptive_field(tmp_path, counts):
    for number, side in enumerate((40, 64)):
        Image.fromarray(np.zeros((side, side + 8), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    teacher = TeacherParameters(**counts, knowledge_weight=0, pool=str(tmp_path), training={"epochs": 4})
    students = StudentParameters(receptive_fields=[17, 33], training={"epochs": 1})
    found = sample_teacher_patches(teacher, students)
    assert found.columns.tolist() == ["receptive_field", "use", "epoch", "image", "side", "top", "left", "grey"]
    uses = found.groupby(["receptive_field", "use"], observed=True).size().to_dict()
    assert uses == {
        (field, use): 3 * 4 if use == "training" else 2 for field in (17, 33) for use in ("training", "validation")
    }
    height = np.where(found["image"] == 0, 40, 64)
    assert (found["top"] + found["side"] <= height).all()
    assert (found["left"] + found["side"] <= height + 8).all()
    assert found.equals(sample_teacher_patches(teacher, students))
    assert not found.equals(sample_teacher_patches(teacher.model_copy(update={"seed": 1}), students))


def test_patches_of_a_folder_without_natural_images(tmp_path):
    teacher = TeacherParameters(pool=str(tmp_path), training={"epochs": 1})
    with pytest.raises(InputError, match="holds 0 images; at least 2 natural images are needed"):
        sample_teacher_patches(teacher, StudentParameters(training={"epochs": 1}))


def test_bad_files_stop_before_anything_is_computed(folder, tmp_path):
    (tmp_path / "good" / "3.png").write_text("no image")
    (tmp_path / "torn" / "0.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        table_of(folder)
    assert "good/3.png" in str(caught.value)
    assert "torn/0.png" in str(caught.value)
