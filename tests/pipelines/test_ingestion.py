"""The nodes of ingestion on small sets."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.pipelines.ingestion.nodes import compute_image_statistics, index_patches, split_images, validate_images

TEXTURES = {
    "name": "textures",
    "category": "brick",
    "image_size": 32,
    "textures": {"train_images": 6, "validation_images": 2, "test_normal": 1, "test_per_defect": 1},
}


@pytest.fixture
def folder(tmp_path) -> dict:
    """Six constant good images of value 0, 10, .., 50 and one white torn one."""
    for name, value in [(f"good/{number}", 10 * number) for number in range(6)] + [("torn/0", 255)]:
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16), value, dtype=np.uint8)).save(path)
    return {"name": "folder", "root": str(tmp_path), "image_size": 16, "validation_fraction": 0.2}


def test_textures_keep_their_own_validation_part():
    table = validate_images(TEXTURES)
    assert list(table.columns) == ["id", "label", "kind", "subset", "has_mask", "fingerprint"]
    split = split_images(table, TEXTURES, 0)
    assert list(split.columns) == ["id", "label", "kind", "split", "has_mask", "fingerprint"]
    assert split["split"].tolist() == table["subset"].tolist()
    assert split["split"].value_counts().to_dict() == {"train": 6, "validation": 2, "test": 6}
    assert split["has_mask"].tolist() == [False] * 9 + [True] * 5
    assert split["fingerprint"].is_unique
    assert split_images(table, TEXTURES, 1).equals(split)


def test_folder_is_split_by_seed(folder):
    table = validate_images(folder)
    splits = [split_images(table, folder, seed) for seed in (0, 0, 1, 2, 3)]
    assert splits[0].equals(splits[1])
    assert len({tuple(split["split"]) for split in splits}) > 1
    # a fifth of 6 images is for the test (1), a fifth of the other 5 held out (1)
    assert splits[0]["split"].value_counts().to_dict() == {"train": 4, "test": 2, "validation": 1}


def test_split_survives_a_csv_file(folder, tmp_path):
    table = validate_images(folder)
    table.to_csv(tmp_path / "images.csv", index=False)
    assert split_images(pd.read_csv(tmp_path / "images.csv"), folder, 0).equals(split_images(table, folder, 0))


def test_statistics_are_of_training_images_alone(folder):
    split = split_images(validate_images(folder), folder, 0)
    training = split.loc[split["split"] == "train", "id"]
    values = [int(name.removeprefix("good/").removesuffix(".png")) * 10 / 255 for name in training]
    found = compute_image_statistics(split, folder)
    assert found["images"] == 4
    np.testing.assert_allclose(found["mean"], [np.mean(values)] * 3, rtol=1e-6)
    np.testing.assert_allclose(found["sd"], [np.std(values)] * 3, rtol=1e-6)


def test_patches_are_of_training_images(folder):
    split = split_images(validate_images(folder), folder, 0)
    index = index_patches(split, folder, {"size": 5, "per_image": 3}, seed=0)
    assert list(index.columns) == ["row", "id", "top", "left"]
    assert len(index) == 4 * 3
    assert (split["split"].to_numpy()[index["row"]] == "train").all()
    assert (split["id"].to_numpy()[index["row"]] == index["id"]).all()
    assert index[["top", "left"]].to_numpy().max() <= 11
    assert index.equals(index_patches(split, folder, {"size": 5, "per_image": 3}, seed=0))
    assert not index.equals(index_patches(split, folder, {"size": 5, "per_image": 3}, seed=1))


def test_patches_larger_than_images(folder):
    split = split_images(validate_images(folder), folder, 0)
    with pytest.raises(InputError, match=r"patches\.size is 17, but images are 16 x 16"):
        index_patches(split, folder, {"size": 17, "per_image": 1}, seed=0)


def test_bad_files_stop_before_anything_is_computed(folder, tmp_path):
    (tmp_path / "good" / "3.png").write_text("no image")
    (tmp_path / "torn" / "0.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        validate_images(folder)
    assert "good/3.png" in str(caught.value)
    assert "torn/0.png" in str(caught.value)
