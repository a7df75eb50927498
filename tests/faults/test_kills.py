"""A run that is killed at any moment, and started again, ends as if nothing had been.

`KDAD_KILLS` says at how many moments each pipeline is killed, 3 where it is not set.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from golden_numbers import collect, differences
from kept_detectors import write_crop
from projects import FEW_GIVEN, copy_project, half_written, logged_runs

MOMENTS = int(os.environ.get("KDAD_KILLS", "3"))
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_SMALL = f"{FEW_GIVEN},reporting.sheet_rows=1,reporting.case_sheet_rows=1"
_OFTEN = f"{_SMALL},cloner.training.checkpoint_every=1,students.training.checkpoint_every=1"
COMMANDS = {
    "mkd": ["--pipelines=mkd", f"--params={_OFTEN},cloner.training.epochs=6"],
    "uninformed_students": ["--pipelines=uninformed_students", f"--params={_OFTEN}"],
    "mkd_ablation": ["--pipelines=mkd_ablation", f"--params={_SMALL},mkd_ablation.axes=loss_terms"],
    "inference": ["--pipelines=inference", f"--params={_SMALL},inference.images=pictures,inference.output=predicted"],
}
_STORES = ("data/04_feature/store", "data/06_models/store", "data/07_model_output/store")


@dataclass
class Reference:
    """A project to start from, what a whole run of the pipeline leaves, and how long it takes."""

    pipeline: str
    start: Path
    numbers: Path
    predicted: pd.DataFrame | None
    seconds: float


def _command(pipeline: str) -> list[str]:
    return [sys.executable, "-m", "kedro", "run", "--env=test", *COMMANDS[pipeline]]


def _start(pipeline: str, project: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    return subprocess.Popen(
        _command(pipeline), cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish(pipeline: str, project: Path) -> str:
    running = _start(pipeline, project)
    output, _ = running.communicate(timeout=600)
    assert running.returncode == 0, output
    assert "Traceback" not in output
    return output


def _predicted(project: Path) -> pd.DataFrame | None:
    """Return the table of predictions without what differs from run to run."""
    path = project / "predicted/predictions.csv"
    return pd.read_csv(path, float_precision="round_trip").drop(columns="milliseconds") if path.exists() else None


@pytest.fixture(scope="module")
def reference_of(tmp_path_factory, migrated_database):
    """Run a pipeline whole, once for all moments; what it starts from is kept apart."""
    known: dict[str, Reference] = {}

    def make(pipeline: str) -> Reference:
        if pipeline in known:
            return known[pipeline]
        folder = tmp_path_factory.mktemp(pipeline)
        start = copy_project(folder / "start", migrated_database)
        if pipeline == "inference":
            _finish("mkd", start)
            for number in range(24):
                write_crop(start / f"pictures/{number:02}.png", number, 200, 200, torn=number % 3 == 0)
        shutil.copytree(start, folder / "whole")
        began = time.monotonic()
        _finish(pipeline, folder / "whole")
        seconds = time.monotonic() - began
        collect(pipeline, folder / "whole", folder / "numbers")
        known[pipeline] = Reference(pipeline, start, folder / "numbers", _predicted(folder / "whole"), seconds)
        return known[pipeline]

    return make


def _finished(project: Path) -> dict[Path, int]:
    """Return the identities of what has been finished so far, by its folder in a store."""
    folders = [folder for store in _STORES for folder in (project / store).glob("*") if not folder.suffix]
    return {folder: (folder / "checksums.json").stat().st_ino for folder in folders}


def _epochs(output: str) -> Counter[tuple[str, int]]:
    """Return how often each epoch of a training that keeps every one was trained, as the log says."""
    return Counter((name, int(epoch)) for name, epoch in re.findall(r"(cloner|students p\d+): epoch (\d+) of", output))


def _kill_and_run_again(reference: Reference, project: Path, number: int) -> str:
    """Return which signal came when, and whether the run was still there."""
    draw = random.Random(f"{reference.pipeline} {number}")
    kind, moment = draw.choice(_SIGNALS), draw.uniform(0.02, 1.0) * reference.seconds
    shutil.copytree(reference.start, project)
    running = _start(reference.pipeline, project)
    time.sleep(moment)
    in_time = running.poll() is None
    running.send_signal(kind)
    first, _ = running.communicate(timeout=120)
    said = f"{reference.pipeline}, {kind.name} after {moment:.1f} s:\n{first}"
    before = _finished(project)
    second = _finish(reference.pipeline, project)
    after = _finished(project)
    assert {folder: after.get(folder) for folder in before} == before, f"made twice: {said}\n{second}"
    if "ablation" not in reference.pipeline:  # which trains many cloners
        again = _epochs(first) & _epochs(second)
        assert again.total() <= 1, f"trained twice: {again} {said}\n{second}"  # the epoch that was not on the disk yet
    found = project.with_name(f"{project.name} numbers")
    collect(reference.pipeline, project, found)
    assert list(differences(reference.numbers, found, tolerance=0.0)) == [], said
    assert any(reference.numbers.rglob("*.json"))
    if reference.predicted is not None:
        pd.testing.assert_frame_equal(_predicted(project), reference.predicted, check_exact=True)
    assert {run.info.status for run in logged_runs(project)} <= {"FINISHED", "KILLED", "FAILED"}, said
    assert half_written(project) == [], said
    shutil.rmtree(project)
    return f"{kind.name} after {moment:.1f} s of {reference.seconds:.1f} s, {'in time' if in_time else 'too late'}"


@pytest.mark.faults
@pytest.mark.parametrize("number", range(MOMENTS))
@pytest.mark.parametrize("pipeline", COMMANDS)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_numbers(
    reference_of, tmp_path, pipeline, number, record_property
):
    record_property("killed", _kill_and_run_again(reference_of(pipeline), tmp_path / "project", number))
