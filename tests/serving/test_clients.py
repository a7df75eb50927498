"""The clients that the documentation prints run as they stand."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from kdad import detectors
from kdad.parameters.blocks import ServingParameters
from kdad.serving.app import create_app
from projects import PROJECT
from serving_files import png
from serving_process import served_here

PAGE = (PROJECT / "docs/how_to/serving.md").read_text(encoding="utf-8")
PORT = 8080


def printed(kind: str) -> str:
    """Return the first block of a language."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)[0]


@pytest.fixture(scope="module")
def port(detector_folder):
    """The port of a server."""
    with served_here(create_app(detectors.load(detector_folder), ServingParameters())) as (_, free):
        yield free


@pytest.fixture
def expected(tmp_path, detector_folder):
    """What the detector says in process of the file that clients send."""
    (tmp_path / "part.png").write_bytes(png(200, 40, 50))
    return detectors.load(detector_folder).predict(tmp_path / "part.png")


def run(command: list[str], folder) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def test_curl(tmp_path, port, expected):
    said = json.loads(run(["bash", "-c", printed("sh").replace(str(PORT), str(port))], tmp_path))
    assert said["score"] == pytest.approx(expected.score, rel=1e-5)
    assert (said["threshold"], said["decision"]) == (expected.threshold, int(expected.decision))


def test_python(tmp_path, port, expected):
    said = run([sys.executable, "-I", "-c", printed("python").replace(str(PORT), str(port))], tmp_path)
    score, word = said.split()
    assert float(score) == pytest.approx(expected.score, rel=1e-5)
    assert word == ("anomalous" if expected.decision else "normal")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("mcs") and shutil.which("mono")), reason="needs Mono and its compiler")
def test_csharp(tmp_path, port, expected):
    (tmp_path / "client.cs").write_text(printed("csharp").replace(str(PORT), str(port)), encoding="utf-8")
    run(["mcs", "-r:System.Net.Http", "-r:System.Runtime.Serialization", "client.cs"], tmp_path)
    score, word = run(["mono", "client.exe"], tmp_path).split()
    assert float(score) == pytest.approx(expected.score, rel=1e-5)
    assert word == ("anomalous" if expected.decision else "normal")


@pytest.mark.long
def test_bounds_are_printed_as_they_are_by_default():
    for name, value in re.findall(r"`(\w+): (\d+)`", PAGE):
        assert getattr(ServingParameters(), name) == float(value), name
