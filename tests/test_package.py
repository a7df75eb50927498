"""The wheel holds all that its pipelines read beside a configuration."""

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from kdad.parameters.strict import merge
from projects import FEW, FEW_GIVEN, PROJECT, STANDING, copy_project
from running import wait_while_running

pytestmark = pytest.mark.long

ONE_CELL = {
    "dataset": {"textures": FEW},
    "paper_tables": {"paper_dataset": "mvtec_ad", "categories": "brick", "seeds": "0"},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this source, unpacked as an installer does."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT / "src/kdad", place / "source/src/kdad", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, place / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, f"--wheel-dir={place}", str(place / "source")], check=True)
    (built,) = place.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(place / "installed")
    return place / "installed"


#: Hides every module that `kdad[extra]` does not bring, as in an environment that holds nothing else.
_ALONE = """
import importlib.metadata as metadata, runpy, sys
from importlib.machinery import PathFinder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

seen, waiting = set(), [("kdad", extra) for extra in ("", sys.argv[1])]
while waiting:
    name, extra = waiting.pop()
    seen.add((name, extra))
    for needed in map(Requirement, metadata.requires(name) or []):
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            found = [(canonicalize_name(needed.name), inner) for inner in ("", *needed.extras)]
            waiting += [pair for pair in found if pair not in seen]
brought = {name for name, _ in seen}

class Shown(PathFinder):
    known = metadata.packages_distributions()
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        owners = {canonicalize_name(owner) for owner in cls.known.get(name, [])}
        hidden = "." not in name and owners and not owners & brought
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[:] = [Shown if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = sys.argv[2:]
if sys.argv[0] == "-c":
    exec(sys.argv.pop(1))
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_PREDICT = """
import importlib.util, kdad, sys
print(kdad.__file__, kdad.load(sys.argv[1]).predict(sys.argv[2]).score)
for name in ("kedro", "mlflow", "pandas", "sklearn"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is there")
"""


@pytest.fixture
def alone(wheel, tmp_path):
    """Start the wheel's package in a folder of its own, with nothing but what an extra brings."""

    def start(extra: str, *arguments: str) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(wheel)}
        command = [sys.executable, "-c", _ALONE, extra, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    return start


def test_predicting_takes_what_its_extra_brings(alone, wheel, detector_folder, tmp_path):
    Image.new("RGB", (48, 32), "grey").save(tmp_path / "image.png")
    said = alone("predict", "-c", _PREDICT, detector_folder, tmp_path / "image.png").communicate()[0]
    assert said.split()[0] == str(wheel / "kdad/__init__.py"), said
    assert len(said.split()) == 2, said


def test_a_run_takes_what_its_extra_brings(alone, tmp_path, migrated_database):
    configured = copy_project(tmp_path / "configured", migrated_database)
    given = ["--pipelines=ingestion", "--env=test", f"--conf-source={configured / 'conf'}", f"--params={FEW_GIVEN}"]
    process = alone("run", "kdad", *given)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert list(tmp_path.glob("data/08_reporting/textures/*/data/data_report.html"))


def test_a_server_takes_what_its_extra_brings(alone, detector_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = alone("serve", "kdad.serving", detector_folder, f"--port={port}")
    try:
        wait_while_running(process, lambda: _answers(port))
    finally:
        process.kill()


def _answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live").status == 200
    except OSError:
        return False


def test_every_file_of_the_source_is_in_the_wheel(wheel):
    source = PROJECT / "src/kdad"
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert wanted - {path.relative_to(wheel / "kdad") for path in (wheel / "kdad").rglob("*")} == set()


def test_paper_tables_of_the_wheel_find_the_printed_figures_in_an_empty_folder(wheel, tmp_path, migrated_database):
    configured = copy_project(tmp_path / "configured", migrated_database)
    path = configured / "conf/test/parameters.yml"
    known = yaml.safe_load((PROJECT / "conf/base/parameters/paper_tables.yml").read_text())["paper_tables"]["methods"]
    methods = {name: None for name in (*known, *STANDING) if name != "nearest_pixels"}
    changed = merge(merge(yaml.safe_load(path.read_text()), ONE_CELL), {"paper_tables": {"methods": methods}})
    path.write_text(yaml.safe_dump(changed))
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "kdad", "--pipelines=paper_tables", "--env=test"]
    found = subprocess.run(
        [*command, f"--conf-source={configured / 'conf'}"],
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    cells = pd.read_csv(empty / "data/08_reporting/textures/paper_tables/cells.csv")
    assert cells["paper"].notna().any()
    assert cells.loc[cells["method"] == "nearest_pixels", "ours"].notna().any()
