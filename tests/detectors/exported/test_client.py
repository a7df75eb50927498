"""The client of the documentation, in an environment that holds what it names and nothing else."""

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exported_detectors import coloured_noise, waves
from kdad.detectors import load
from kdad.errors import InputError
from memory_images import ANOMALOUS
from projects import PROJECT

CLIENT = PROJECT / "docs/clients/onnx_client.py"


def _run(python: Path | str, *arguments: object) -> str:
    given = [str(argument) for argument in (python, "-I", CLIENT, *arguments)]
    return subprocess.run(given, capture_output=True, text=True, check=True).stdout


def _check(python: Path | str, exported, folder: Path) -> None:
    paths = []
    for number, pixels in enumerate([waves().own_pixels(ANOMALOUS[0]), coloured_noise(120, 80)]):
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    rows = [
        line.split("\t")
        for line in _run(python, exported() / "detector.onnx", *paths, "--maps", folder / "maps").splitlines()
    ]
    predictor = load(exported())
    assert [row[0] for row in rows] == ["0.png", "1.png"]
    for path, (_, score, threshold, decision) in zip(paths, rows, strict=True):
        found = predictor.predict(path)
        assert float(score) == pytest.approx(found.score, rel=1e-4)
        assert float(threshold) == pytest.approx(found.threshold, rel=1e-5)
        assert decision == ("anomalous" if found.decision else "normal")
        with Image.open(path) as image, Image.open(folder / "maps" / path.name) as shown:
            assert shown.size == image.size
        if image.size == (48, 32):  # the detector's own
            low, high = predictor.colour_limits
            grey = np.clip((found.map - low) / (high - low), 0, 1) * 255
            np.testing.assert_allclose(np.asarray(Image.open(folder / "maps" / path.name)), grey, atol=1.01)
            assert grey.max() > 50


@pytest.mark.long
def test_the_client_says_what_the_detector_does(exported, tmp_path):
    _check(sys.executable, exported, tmp_path)


@pytest.mark.long
def test_the_client_needs_no_more_than_it_names(exported, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"], check=True)
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "kdad", "onnx", "scipy"} & {line.split()[0] for line in listed.splitlines()}
    _check(python, exported, tmp_path)


def test_the_client_refuses_what_the_product_refuses(exported, tmp_path):
    pixels = coloured_noise(32, 48)
    Image.fromarray(pixels).save(tmp_path / "good.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(tmp_path / "wide.png")
    Image.fromarray(pixels[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    Image.fromarray(pixels).save(tmp_path / "eps.png", format="EPS")
    names = ["wide.png", "float.tif", "torn.png", "eps.png"]
    predictor = load(exported())
    for name in names:
        with pytest.raises(InputError):
            predictor.predict(tmp_path / name)
    given = [sys.executable, "-I", CLIENT, exported() / "detector.onnx", *(tmp_path / n for n in (*names, "good.png"))]
    run = subprocess.run(list(map(str, given)), capture_output=True, text=True)
    assert run.returncode == 1
    assert [line.split("\t")[0] for line in run.stdout.splitlines()] == ["good.png"]
    assert [line.partition(": ")[0] for line in run.stderr.splitlines()] == [str(tmp_path / name) for name in names]
    assert "mode I;16), and the detector takes 8-bit RGB images, of which 0 becomes 0 and 255 becomes 1" in run.stderr
