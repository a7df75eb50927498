"""A run decodes each file once, passes each image through the frozen network once, and sorts pixels once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from kdad.features.network import FrozenNetwork
from kdad.metrics import measure
from projects import copy_project, run_pipeline

#: Its maps take no gradients, for which a network has to run again.
SYSTEM = "stfpm"


@pytest.fixture(params=["uint8", pytest.param("uint16", marks=pytest.mark.long)])
def root(tmp_path, request) -> Path:
    """Twelve training images and six to test, three of them with masks."""
    generator = np.random.default_rng(0)
    scale = (0, 250) if request.param == "uint8" else (20_000, 3_000)
    for part, count in (("train/good", 12), ("test/good", 3), ("test/hole", 3)):
        for number in range(count):
            grey, mask = generator.random((64, 64)), np.zeros((64, 64), np.uint8)
            if "hole" in part:
                mask[20:30, 10 : 20 + number] = 255
                _write(mask, tmp_path / f"set/ground_truth/hole/{number}_mask.png")
            pixels = scale[0] + scale[1] * np.where(mask, 0, grey)
            _write(pixels.astype(request.param), tmp_path / f"set/{part}/{number}.png")
    return tmp_path / "set"


def _write(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def counted(monkeypatch, root) -> dict[str, Counter]:
    """How often a file was decoded, how many images passed the network, and how often a method's pixels were ranked."""
    counts = {"files": Counter(), "images": Counter(), "rankings": Counter()}
    decode, outputs, rank = ImageFile.ImageFile.load, FrozenNetwork.outputs, measure.rank_pixels

    def counting_decode(file):
        if file.tile and str(root) in str(file.filename):
            counts["files"][Path(file.filename).relative_to(root).as_posix()] += 1
        return decode(file)

    def counting_outputs(network, images, *depth):
        for image in images:
            counts["images"][image.numpy().tobytes()] += 1
        return outputs(network, images, *depth)

    def counting_rank(*given):
        counts["rankings"]["pixels"] += 1
        return rank(*given)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counting_decode)
    monkeypatch.setattr(FrozenNetwork, "outputs", counting_outputs)
    monkeypatch.setattr(measure, "rank_pixels", counting_rank)
    return counts


def test_one_run_does_everything_once_and_the_next_decodes_nothing(tmp_path, root, counted, migrated_database):
    project = copy_project(tmp_path / "project", migrated_database)
    dataset = {"name": "folder", "category": None, "image_size": 64, "root": str(root), "textures": {}}
    tiny = {"source": {"name": "timm:test_resnet", "weights": "random"}, "points": "first 3", "training": {"epochs": 1}}
    given = {"dataset": dataset, "reporting": {"sheet_rows": 1}, SYSTEM: tiny}
    given["compute"] = {"precision": "float32"}  # in bfloat16 held-out images pass in float32 again, for its threshold
    run_pipeline(project, "test", SYSTEM, runtime_params=given)
    assert len(counted["files"]) == 18 + 3  # images and masks
    assert set(counted["files"].values()) == {1}
    assert len(counted["images"]) == 18
    assert set(counted["images"].values()) == {1}
    assert counted["rankings"] == {"pixels": 1}
    for counts in counted.values():
        counts.clear()
    run_pipeline(project, "test", SYSTEM, runtime_params=given)
    assert not counted["files"] and not counted["images"]
