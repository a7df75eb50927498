"""What a run finds on this machine, and what would stop it: ``python -m kdad.doctor``."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kdad import __version__
from kdad.compute import bfloat16_is_native, choose_compute, limit_threads, usable_cores
from kdad.errors import InputError
from kdad.networks.source import build_source
from kdad.networks.weights import load_source
from kdad.project import LOADER_ARGS
from kdad.project.command_line import CommandLineError
from kdad.project.places import DATA
from kdad.tracking.destination import destination_of, unreachable

#: Bytes below which a run may not find room for its features.
_LEAST_FREE = 2 * 10**9
_SHOWN = ("torch", "torchvision", "timm", "kedro", "mlflow")


class Finding(NamedTuple):
    """One line of the table; `stops` where a run would end of it, else a `note` is advice alone."""

    what: str
    found: str
    note: str = ""
    stops: bool = False


def findings(conf: Path, env: str | None) -> Iterator[Finding]:
    """Yield what is found of packages, the machine, the disk and the configuration."""
    yield from _packages()
    yield from _machine()
    yield _disk(conf.resolve().parent)
    if not (conf / "base").is_dir():
        note = "there is no such configuration; go to the project's folder, or give --conf-source"
        yield Finding("configuration", str(conf), note, stops=True)
        return
    try:
        from kdad.project.configuration import RunConfigLoader, block_model, check_values  # late: it takes Kedro

        loader = RunConfigLoader(str(conf), env=env, **LOADER_ARGS)
        parameters, mlflow = loader["parameters"], loader["mlflow"]
        check_values({name: block_model(name) for name in ("compute", "source")}, parameters)
    except (CommandLineError, ImportError) as error:
        yield Finding("configuration", str(conf), getattr(error, "message", str(error)), stops=True)
        return
    yield Finding("configuration", f"{conf}, environment {env or 'local'}")
    yield _tried("compute", lambda: _compute(parameters["compute"]))
    yield _tracking(mlflow, parameters)
    yield _tried("weights", lambda: _weights(**parameters["source"]))


def _packages() -> Iterator[Finding]:
    wrong, shown = [], [f"kdad {__version__}", f"Python {platform.python_version()}"]
    for needed in map(Requirement, requires("kdad") or []):
        if needed.marker is not None and not needed.marker.evaluate({"extra": "run"}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        shown += [f"{needed.name} {found}"] * (needed.name in _SHOWN)
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} is {found}, wanted {needed.specifier}")
    note = f"{'; '.join(wrong)}: `pip install -r requirements.lock`" if wrong else ""
    yield Finding("versions", ", ".join(shown), note, stops=bool(wrong))


def _machine() -> Iterator[Finding]:
    limit_threads(None)
    cores, threads = usable_cores(), torch.get_num_threads()
    yield Finding("cores", f"{cores} usable, {os.cpu_count()} of the machine")
    yield Finding("threads", str(threads), "more than cores: see OMP_NUM_THREADS" if threads > cores else "")
    native = bfloat16_is_native(torch.device("cpu"))
    yield Finding("bfloat16", "in hardware" if native else "not in hardware: float32 is used, about half as fast")


def _disk(project: Path) -> Finding:
    place = project / DATA if (project / DATA).is_dir() else project
    free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
    note = "" if free > _LEAST_FREE else "free some: see `python -m kdad.store size`"
    note = note if writable else f"'{place}' may not be written to"
    return Finding("disk", f"{free / 1e9:,.1f} GB free", note, stops=bool(note))


def _tried(what: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(what, act())
    except InputError as error:
        return Finding(what, "", str(error), stops=True)


def _compute(block: dict[str, Any]) -> str:
    return ", ".join(choose_compute(block["device"], block["precision"], block["compile"]).describe().values())


def _tracking(mlflow: dict[str, Any], parameters: dict[str, Any]) -> Finding:
    destination, block = destination_of(mlflow, os.environ, "kdad"), parameters["tracking"]
    reason = unreachable(destination) if block["enabled"] else "tracking.enabled is false"
    if reason is None:
        return Finding("MLflow", f"{destination.uri}: reachable")
    stops = block["enabled"] and block["when_unreachable"] == "stop"
    return Finding("MLflow", f"{destination.uri}: {reason}", "" if stops else "runs go on without it", stops)


def _weights(name: str, weights: str, **_: Any) -> str:
    if weights == "pretrained" and not name.startswith("efficientnet_lite"):
        with torch.device("meta"):  # whether there is such a network
            build_source(name)
        return f"of {name}: fetched by the first run that needs them, where they are not cached"
    load_source(name, weights)
    return f"of {name}: found"


@click.command()
@click.option("--env", default=None, help="environment of `conf`; without it, local")
@click.option("--conf-source", default="conf", help="folder of the configuration")
def main(env: str | None, conf_source: str) -> None:
    """Show what a run finds here; ends with 1 when something would stop it."""
    table, found = Table("", "what", "found", "note"), list(findings(Path(conf_source), env))
    for line in found:
        table.add_row("[red]stops[/]" if line.stops else "ok", *map(escape, line[:3]))
    Console().print(table)
    sys.exit(any(line.stops for line in found))


if __name__ == "__main__":
    main()
