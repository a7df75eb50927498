"""Freeze the numbers of every pipeline, and compare them after the code has changed.

``python tests/golden_numbers.py freeze FOLDER`` runs every pipeline under `conf/test`, and what `make run` runs, in
projects of their own, and keeps the numbers of their tables in FOLDER; ``compare FOLDER`` runs them again and lists
what differs. Numbers depend on the processor, so they are frozen where they are compared, and not committed.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from projects import PROJECT

TABLES = ("metrics.json", "scores.csv", "summary.csv", "cells.csv", "baselines.csv", "summary.json", "anomaly.csv")
DIGITS = "dataset.name=digits,dataset.category=null,dataset.normal_class=8,dataset.image_size=32"
RUNS: dict[str, list[str]] = {
    "mkd": ["--env=test"],
    "uninformed_students": ["--env=test", "--pipelines=uninformed_students"],
    "baselines": ["--env=test", "--pipelines=baselines"],
    "mkd_ablation": ["--env=test", "--pipelines=mkd_ablation"],
    "students_ablation": [
        *("--env=test", "--pipelines=students_ablation", "--params"),
        "students_ablation.axes=student_count teacher_terms map_parts",
    ],
    "soft_target": ["--env=test", "--pipelines=soft_target", "--params", DIGITS],
    "paper_tables": [
        *("--env=test", "--pipelines=paper_tables", "--params"),
        f"{DIGITS},paper_tables.categories=3 8,paper_tables.seeds=0 1,paper_tables.methods.students_p33.image_size=36",
    ],
    "paper_tables_textures": [
        *("--env=test", "--pipelines=paper_tables", "--params"),
        "paper_tables.categories=brick grass,paper_tables.seeds=0 1",
    ],
    "make_run": [],
}
#: What differs from run to run: times, memory, commits.
_VOLATILE = ("seconds", "peak_memory", "commit", "milliseconds", "megabytes", "reused", "made")


def run(name: str, project: Path) -> None:
    """Run one of `RUNS` in `project`; its log lies beside."""
    command = [sys.executable, "-m", "kedro", "run", *RUNS[name]]
    with (project / f"{name}.log").open("w") as log:
        ended = subprocess.run(command, cwd=project, stdout=log, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        sys.exit(f"{name} failed:\n{(project / f'{name}.log').read_text()[-3000:]}")


def new_project(folder: Path) -> Path:
    """Copy what a run needs into `folder`."""
    for name in ("conf", "data/01_raw"):
        shutil.copytree(PROJECT / name, folder / name, dirs_exist_ok=True)
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "src").mkdir(exist_ok=True)
    return folder


def numbers_of(path: Path) -> dict[str, float]:
    """Return the numbers of a table by what they are of."""
    if path.suffix == ".json":
        return dict(_leaves(json.loads(path.read_text())))
    table = pd.read_csv(path, dtype={"id": str, "category": str})
    if "metric" in table:
        table = table[~table["metric"].isin(["train_seconds"])]
    numeric = [name for name in table.select_dtypes("number") if name != "seed" and not _is_volatile(name)]
    keys = [name for name in table if name not in table.select_dtypes("number") or name == "seed"]
    keys = [name for name in keys if name != "source" and not _is_volatile(name)]
    if not keys or path.name == "summary.json":
        keys = list(table.columns[:2])
    found = {}
    for row in table.to_dict("records"):
        place = "/".join(str(row[key]) for key in keys)
        found |= {f"{place}/{name}": row[name] for name in numeric if name not in keys}
    return found


def collect(name: str, project: Path, into: Path) -> None:
    """Keep the tables that a run left, by their paths."""
    for path in (project / "data/08_reporting").rglob("*"):
        if path.name in TABLES:
            place = path.relative_to(project / "data/08_reporting")
            target = into / name / place.with_name(place.name + ".numbers.json")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(numbers_of(path), indent=0))


def differences(frozen: Path, found: Path, tolerance: float) -> Iterator[str]:
    """Yield a line for each number that is gone or differs by more than `tolerance`, relative or absolute."""
    for path in sorted(frozen.rglob("*.numbers.json")):
        place = path.relative_to(frozen)
        if not (found / place).exists():
            yield f"{place}: is gone"
            continue
        before, after = (json.loads(file.read_text()) for file in (path, found / place))
        for key, value in before.items():
            now = after.get(key)
            if now is None:
                yield f"{place}: {key} is gone (was {value})"
            elif not (
                math.isclose(value, now, rel_tol=tolerance, abs_tol=tolerance) or (value != value and now != now)
            ):
                yield f"{place}: {key} was {value}, is {now}"


def _equal(first: float, second: float, tolerance: float) -> bool:
    both_absent = math.isnan(first) and math.isnan(second)
    return both_absent or math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _is_volatile(key):
                yield from _leaves(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}/{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, float(value)


def _is_volatile(name: str) -> bool:
    return any(word in name for word in _VOLATILE)


def main() -> None:
    """Freeze or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["freeze", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--tolerance", type=float, default=1e-6)
    arguments = parser.parse_args()
    os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
    frozen = arguments.folder.resolve()
    found = 0
    for name in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            project = new_project(Path(folder) / "project")
            run(name, project)
            if arguments.action == "freeze":
                shutil.rmtree(frozen / name, ignore_errors=True)
                collect(name, project, frozen)
                continue
            collect(name, project, Path(folder) / "found")
            lines = list(differences(frozen / name, Path(folder) / "found" / name, arguments.tolerance))
            found += len(lines)
            print(f"{name}: {len(lines)} numbers differ", *lines, sep="\n  ", flush=True)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
