"""Large images by tiles: refused without a threshold of theirs, with the command that sets one; then scored by it."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import KedroCliError
from PIL import Image

import kdad.detectors
from kdad.cli import run as run_command
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.images.layouts.layout import look_for_images
from kdad.inference.description import predict_by_tiles
from kdad.inference.parameters import CalibrationParameters
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.dataset import TileParameters
from kdad.pipelines.calibration import calibrate
from kept_detectors import DETECTOR, nothing_new, predict, read_predictions, train_on_bricks, write_crop
from projects import half_written, run_pipeline

HEIGHT, WIDTH = 150, 200
TILES = {"size": None, "overlap": 24}


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("tiles"), migrated_database)


@pytest.fixture(scope="module")
def normal(project) -> Path:
    """Nine normal images of 150 x 200."""
    for number in range(9):
        write_crop(project / f"large normal/{number}.png", 200 + number, HEIGHT, WIDTH)
    return project / "large normal"


@pytest.fixture(scope="module")
def large(project) -> Path:
    """A normal and a torn image of 150 x 200, and a small one."""
    for number, (kind, torn) in enumerate((("good", False), ("torn", True))):
        write_crop(project / f"large/{kind}/0.png", 300 + number, HEIGHT, WIDTH, torn)
    write_crop(project / "large/good/small.png", 400, 64, 64)
    return project / "large"


@pytest.fixture(scope="module")
def calibrated(project, normal) -> Path:
    """The folder of the detector with a threshold for tiles."""
    block = {"detector": str(DETECTOR), "images": str(normal), "tiles": TILES, "value": 0.8}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    return next(project.glob("data/06_models/calibrated/*/large normal-*/quantile_0.8_tiles_24/detector"))


@pytest.fixture(scope="module")
def predicted(project, calibrated, large) -> Path:
    """The results' folder of the large images and the small one."""
    predict(project, large, calibrated, tiles=TILES, output=str(project / "by tiles"))
    return project / "by tiles"


@pytest.mark.long
def test_the_refusal_says_the_command_that_then_works(project, normal, large, monkeypatch):
    with nothing_new(project), pytest.raises(KedroCliError) as refused:
        predict(project, large, tiles={"size": None, "overlap": 20})
    message = str(refused.value)
    assert "the detector has no threshold for tiles of 64 x 64 with 20 pixels shared" in message
    (command,) = re.findall("kedro run .*", message)
    program, verb, *arguments = shlex.split(command.replace("FOLDER_OF_NORMAL_IMAGES", str(normal)))
    assert (program, verb) == ("kedro", "run")
    monkeypatch.chdir(project)
    found = CliRunner().invoke(run_command, [*arguments, "--env=test"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    detector = next(project.glob("data/06_models/calibrated/*/*/*_tiles_64_20/detector"))
    assert len(predict(project, large, detector, tiles={"size": 64, "overlap": 20})) == 3


def test_large_images_are_predicted_by_the_tiles_threshold_and_small_ones_as_ever(
    project, calibrated, large, predicted
):
    table = read_predictions(predicted)
    facts = json.loads((calibrated / "detector.json").read_text())
    (tiled,) = facts["tiled"]
    assert tiled["validation_scores"] == sorted(tiled["validation_scores"]) and len(tiled["validation_scores"]) == 9
    assert tiled["threshold"]["value"] == tiled["validation_scores"][7]  # the eighth of nine: ceil(10 * 0.8)
    assert facts["threshold"] == json.loads((project / DETECTOR / "detector.json").read_text())["threshold"]
    assert (tiled["size"], tiled["overlap"], tiled["pixels"]) == ([64, 64], 24, [30000, 30000])
    thresholds = table["threshold"].to_dict()
    assert thresholds["good/0.png"] == thresholds["torn/0.png"] == pytest.approx(tiled["threshold"]["value"])
    assert thresholds["good/small.png"] == pytest.approx(facts["threshold"]["value"])
    whole = predict(project, large / "good", calibrated)
    assert table.loc["good/small.png", "score"] == pytest.approx(whole.loc["small.png", "score"], rel=1e-5)
    assert table.loc["good/0.png", "score"] != pytest.approx(whole.loc["0.png", "score"], rel=0.01)
    assert table["decision"].to_dict() == {"good/0.png": 0, "good/small.png": 0, "torn/0.png": 1}
    assert half_written(project) == []


def test_scores_are_those_that_the_threshold_was_set_on(project, calibrated, normal):
    table = predict(project, normal, calibrated, tiles=TILES)
    detector = kdad.detectors.load(calibrated)
    np.testing.assert_allclose(np.sort(table["score"]), detector.tiled[0].scores, rtol=1e-6)
    assert table["decision"].sum() == 1
    assert sorted(table["percentile"]) == pytest.approx([number / 9 for number in range(9)])


def test_the_heat_map_is_hot_where_the_image_is_torn(predicted):
    table = read_predictions(predicted)
    with Image.open(predicted / table.loc["torn/0.png", "heat_map"]) as picture:
        assert picture.size == (WIDTH, HEIGHT)
        red = np.asarray(picture, dtype=float)[..., 0] - np.asarray(picture, dtype=float)[..., 2]
    assert red[20:36, 20:40].mean() > red.mean() + red.std()


def test_the_page_says_what_the_tiles_are(predicted):
    page = (predicted / "predictions.html").read_text()
    assert "64 x 64 with 24 pixels shared or more" in page
    assert (
        "2 of 150 x 200 in 20 tiles, 1 predicted whole" in page
    )  # rows: ceil(126 / 40) = 4, columns: ceil(176 / 40) = 5


@pytest.mark.long
def test_images_much_larger_than_those_of_the_threshold_are_told(project, calibrated, tmp_path):
    write_crop(tmp_path / "wide.png", 1, 256, 256)
    predict(project, tmp_path, calibrated, tiles=TILES, output=str(project / "wide"))
    assert "1 images have more than 1.5 times more or fewer pixels" in (project / "wide/predictions.html").read_text()


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": None}, "a threshold for tiles needs normal images"),
        ({"images": "pictures/brick/train/good"}, "20 calibration images are no larger than a tile"),
        ({"tiles": {"overlap": 40}}, "overlap 40 is more than half of a tile of 64 x 64; give at most 32"),
        ({"tiles": {"size": 40, "overlap": 30}}, "overlap 30 is more than half of size 40"),
    ],
)
def test_calibration_that_cannot_be(project, normal, tmp_path, given, message):
    block = {"detector": str(DETECTOR), "images": str(normal), "tiles": TILES, "output": str(tmp_path / "new")} | given
    if block["images"] and not Path(block["images"]).is_absolute():
        block["images"] = str(project / block["images"])
    with nothing_new(project, tmp_path), pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})


def test_maps_of_many_sizes_are_no_stack(project, calibrated, large):
    with pytest.raises(KedroCliError, match=r"maps.npy holds maps of one size"):
        predict(project, large, calibrated, tiles=TILES, maps=True)


@pytest.mark.long
def test_a_second_threshold_stands_beside_the_first(project, calibrated, normal, tmp_path):
    block = {"detector": str(calibrated), "images": str(normal), "tiles": {"size": 100}, "output": str(tmp_path)}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    tiled = kdad.detectors.load(tmp_path / "detector").tiled
    assert [(found.size, found.overlap) for found in tiled] == [((64, 64), 24), ((100, 100), 25)]


class _Exported(Predictor):
    """What an exported file is to tiles: no maps before smoothing."""

    system, methods = "exported", ["map"]

    def score_and_show(self, images, outputs=None):
        raise AssertionError


def test_what_has_no_raw_maps_is_refused(normal):
    detector = _Exported()
    detector.size = (64, 64)
    with pytest.raises(InputError, match="an exported file has no maps before smoothing"):
        predict_by_tiles(detector, TileParameters(), 8)
    block = CalibrationParameters(images=str(normal), tiles=TileParameters())
    with pytest.raises(InputError, match="an exported file has no maps before smoothing"):
        calibrate(detector, look_for_images(normal), block, ComputeParameters())
