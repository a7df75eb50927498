"""The wheel holds all that its pipelines read beside a configuration."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kdad.parameters.strict import merge
from projects import FEW, PROJECT, STANDING, copy_project

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
