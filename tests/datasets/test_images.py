import base64
import io

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image

from kdad.datasets.images import ImageSetDataset
from kdad.errors import InputError
from kdad.images.splits import split_samples

BRICK = {
    "name": "textures",
    "category": "brick",
    "image_size": 32,
    "textures": {"train_images": 2, "validation_images": 1, "test_normal": 1, "test_per_defect": 1},
}


def test_a_set_is_opened_as_its_block_says():
    found = ImageSetDataset(dataset=BRICK).load()
    assert (found.name, found.category, found.size) == ("textures", "brick", (32, 32))
    assert found.image(0).shape == (3, 32, 32)


def test_a_folder_that_is_not_there_is_one_message(tmp_path):
    block = {"name": "folder", "root": str(tmp_path / "nowhere"), "image_size": 32}
    with pytest.raises(DatasetError, match="nowhere") as caught:
        ImageSetDataset(dataset=block).load()
    assert isinstance(caught.value.__cause__, InputError)


def test_images_are_never_written():
    with pytest.raises(DatasetError, match="never written"):
        ImageSetDataset(dataset=BRICK).save("anything")


def test_the_preview_shows_the_first_images_side_by_side():
    picture = Image.open(io.BytesIO(base64.b64decode(ImageSetDataset(dataset=BRICK).preview())))
    assert (picture.height, picture.width) == (96, 8 * 96)
    assert picture.getextrema()[0][0] < picture.getextrema()[0][1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wide_values_are_scaled_by_images_that_train_by_the_runs_seed(tmp_path, seed):
    (tmp_path / "good").mkdir()
    for row in range(1, 11):  # of the values 0 and 1000 to 10000, half of each
        pixels = np.repeat(np.array([[0, 1000 * row]], dtype=np.uint16), 16, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(tmp_path / f"good/{row:02d}.png")
    block = {"name": "folder", "root": str(tmp_path), "image_size": 16}
    found = ImageSetDataset(dataset=block, seed=seed).load()
    parts = split_samples(found.samples, "auto", seed)
    # All but a twentieth of the images that train, and a quarter more, rounded up.
    training = [1000 * row for row, part in enumerate(parts, 1) if part == "train"]
    values = found.preparation.values
    assert (values.low, values.high) == (0, np.ceil(1.25 * np.quantile(training, 0.95)))
