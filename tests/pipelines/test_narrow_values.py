"""Images that use little of their type's range: found as well as the same parts in 8 bits, and scored alike later."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.detectors.opening import open_detector
from kept_detectors import predict
from projects import copy_project, run_pipeline

pytestmark = pytest.mark.long

#: As files of 8 bits, and of 16 bits with a camera's offset, as thermal ones.
CAMERAS = {
    "eight": lambda grey: (grey * 255).astype(np.uint8),
    "thermal": lambda grey: (51241 + grey * 940).astype(np.uint16),
}
#: A rule without what normal images have at each position, which makes up for much of a lost range.
PLAIN = {"detection": {"normalisation": "none"}, "forward_map": {"term": "direction"}}


def scene(seed: int, hot: bool) -> np.ndarray:
    """Return soft stripes with noise `(64, 64)` in [0, 1], perhaps with a spot that is 30 of 255 brighter."""
    generator = np.random.default_rng(seed)
    grey = 130 + 40 * np.sin(np.arange(64) / 64 * 25 + generator.uniform(0, 0.5)) + generator.normal(0, 6, (64, 64))
    if hot:
        row, column = generator.integers(14, 50, 2)
        rows, columns = np.mgrid[:64, :64]
        grey += 30 * ((rows - row) ** 2 + (columns - column) ** 2 <= 64)
    return grey.clip(0, 255) / 255


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    """A project with two folders of 20 training and 12 test images."""
    folder = copy_project(tmp_path_factory.mktemp("values"), migrated_database)
    for name, convert in CAMERAS.items():
        for part, count, hot, start in (
            ("train/good", 20, False, 0),
            ("test/good", 6, False, 100),
            ("test/hot", 6, True, 200),
        ):
            place = folder / name / part
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(convert(scene(start + number, hot))).save(place / f"{number:02d}.png")
    return folder


def train(project: Path, camera: str, **dataset) -> dict:
    """Train on the images of a camera, 18 of 20, and return the metrics."""
    block = {"name": "folder", "category": camera, "root": str(project), "validation_fraction": 0.1, **dataset}
    run_pipeline(
        project,
        "test",
        runtime_params={
            "dataset": block,
            "cloner": {"training": {"epochs": 12}},
            "scoring": {"localisation": ["discrepancy"], **PLAIN},
            "reporting": {"sheet_rows": 1},
        },
    )
    return json.loads((project / f"data/08_reporting/folder/{camera}/mkd/metrics.json").read_text())


@pytest.fixture(scope="module")
def measured(project) -> dict[str, float]:
    """The image AUROC by camera, each with the parameters as they are."""
    return {camera: train(project, camera)["image_auroc"] for camera in CAMERAS}


def test_a_narrow_range_is_no_harder_than_eight_bits(measured):
    assert measured["eight"] > 0.8
    assert measured["thermal"] > measured["eight"] - 0.06  # of 36 pairs of a normal and a hot image, two more are wrong


def test_the_kept_detector_scales_new_images_as_those_of_training(project, measured):
    folder = project / "data/06_models/folder/thermal/mkd/detector"
    values = open_detector(folder).preparation.values
    assert (values.kind, values.is_types_own) == ("integer", False)
    assert 51241 <= values.low < values.high <= 52181
    own = pd.read_csv(project / "data/08_reporting/folder/thermal/mkd/scores.csv").query("split == 'test'")
    own["id"] = own["id"].str.removeprefix("test/")
    predicted = predict(project, project / "thermal/test", folder)
    np.testing.assert_allclose(predicted["score"], own.set_index("id")["score"].loc[predicted.index], rtol=1e-4)


def test_what_is_scaled_is_said(project, caplog):
    with caplog.at_level(logging.INFO, logger="kdad"):
        run_pipeline(
            project,
            "test",
            runtime_params={"dataset": {"name": "folder", "category": "thermal", "root": str(project)}},
            pipeline_names=["mkd"],
            to_outputs=["image_table"],
        )
    assert "Pixel values: integer values, of which training images use 51," in caplog.text
    assert "(the type: 0 to 65,535)" in caplog.text


def test_scaled_by_its_type_the_same_detector_is_worse(project, measured):
    assert train(project, "thermal", value_range="type")["image_auroc"] < measured["thermal"] - 0.1
