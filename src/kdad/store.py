"""What lies in `data`, which run made it, and what may go: ``python -m kdad.store list | size | clean``."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from kdad.errors import InputError
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.kept_results import RUNS, Result, better_than
from kdad.project.places import DATA, find_latest
from kdad.storage.content_store import CHECKSUMS, MADE_BY
from kdad.storage.replacing import ProcessLock, read_facts

#: The stores of finished work below `data`, and what each holds.
STORES = {
    "04_feature/store": "outputs of a frozen network",
    "06_models/store": "a trained network",
    "07_model_output/store": "maps",
}
#: What names entries of the stores that later steps read, and detectors that may have been made from them.
_NAMING = ("04_feature/**/features.json", "06_models/**/frozen.json", "06_models/**/detector.json")
_AGE = re.compile(r"(\d+)([hdw])")
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Entry:
    """A folder of a store: what it is, who made it, when it was last used (seconds since 1970), who needs it."""

    folder: Path
    what: str
    made_by: str
    used: float
    needed_by: tuple[str, ...]


def entries(project: Path) -> list[Entry]:
    """Return the folders of the stores, the least recently used first; what is half built is one too."""
    data = project / DATA
    naming = [(place, text) for output in outputs_of(project) for place, text in _naming(project / output)]
    found = []
    for store, kind in STORES.items():
        for folder in filter(Path.is_dir, (data / store).glob("*")):
            needed = sorted({place for place, text in naming if folder.name in text})
            made_by = read_facts(folder / MADE_BY).get("command", "")
            found.append(Entry(folder, _what(folder, kind), made_by, _used(folder), tuple(needed)))
    return sorted(found, key=lambda entry: entry.used)


def outputs_of(project: Path) -> list[str]:
    """Return the folders that results are written below, in any environment of the project's configuration."""
    named = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(project.glob("conf/*/globals.yml"))]
    return list(dict.fromkeys([DATA, *(str(values["outputs"]) for values in named if values and "outputs" in values)]))


def removable(found: Iterable[Entry], older_than: float) -> list[Entry]:
    """Return the entries that nothing needs and that were last used more than `older_than` seconds ago."""
    return [entry for entry in found if not entry.needed_by and time.time() - entry.used > older_than]


def size_of(*folders: Path, freed: bool = False) -> int:
    """Return the bytes of the folders' files, each once whatever names it has.

    With `freed` those that the disk has when the folders go: files with another name elsewhere stay.
    """
    facts = [path.stat() for folder in folders for path in folder.rglob("*") if path.is_file()]
    names = Counter((one.st_dev, one.st_ino) for one in facts)
    files = {(one.st_dev, one.st_ino): one for one in facts}
    return sum(one.st_size for key, one in files.items() if not freed or names[key] == one.st_nlink)


def remove(chosen: Iterable[Entry], project: Path) -> None:
    """Remove entries; raises `CommandLineError` while a run is going on, which may read them."""
    _refuse_while_running(project)
    for entry in chosen:
        _refuse_while_running(project)  # the entries before may have been large
        lock = ProcessLock(entry.folder.with_name(f"{entry.folder.name.removesuffix('.partial')}.lock"))
        if lock.take(wait=False):  # else another process is building it
            shutil.rmtree(entry.folder)
            lock.free()


def _refuse_while_running(project: Path) -> None:
    for output in outputs_of(project):
        for path in sorted((project / output / ".locks").glob("*.lock")):
            lock = ProcessLock(path)
            if not lock.take(wait=False):
                raise CommandLineError(f"a run is going on: {lock.holder()}. Wait until it ends", ExitCode.OCCUPIED)
            lock.free()


def _naming(outputs: Path) -> Iterator[tuple[str, str]]:
    """Yield the place of each file that names entries, and its text."""
    for path in (path for pattern in _NAMING for path in sorted(outputs.glob(pattern))):
        parts = path.parent.relative_to(outputs).parts[1:]
        if parts[:1] == ("store",):  # of the layer; a folder or category may be named so too
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.name == "features.json":  # its entries may be rows of others, which their manifests name
            manifests = [path.parent / str(place) / "manifest.json" for place in read_facts(path).values()]
            text += "".join(one.read_text(encoding="utf-8") for one in manifests if one.is_file())
        yield "/".join(part for part in parts if part not in ("detector", "fitted")), text


def _what(folder: Path, kind: str) -> str:
    facts = read_facts(folder / "manifest.json")
    if folder.suffix == ".partial":
        return "half built: the same run again goes on with it"
    if folder.name.startswith("images_"):
        return "decoded images"
    if folder.name.startswith("source_"):
        return "weights of a source from a file"
    if "network" in facts:
        name, size = facts["network"].get("name", "a teacher"), " x ".join(map(str, facts["image_size"]))
        return f"outputs of {name} for {facts['count']} images of {size}"
    case = read_facts(folder / "result.json")
    if case:
        return f"case: {case['system']}, {case['axis']} {case['variant']}, {case['category']}, seed {case['seed']}"
    maps = sorted(path.stem for path in folder.glob("*.npy"))
    return f"{kind}: {', '.join(maps)}" if kind == "maps" and maps else kind


def _used(folder: Path) -> float:
    """Return when a folder was last asked for, as far as the disk notes it: its checksums are read each time."""
    facts = (folder / CHECKSUMS if (folder / CHECKSUMS).is_file() else folder).stat()
    return max(facts.st_atime, facts.st_mtime)


def detector_rows(project: Path, output: str) -> list[tuple[str, str, str, str]]:
    """Return each detector below `output`: its folder, what it is, the run that made it, and its remarks."""
    try:
        latest: Path | None = find_latest(project / output, project)[0]
    except InputError:  # none, or several, which `latest` itself says
        latest = None
    rows = []
    for path in sorted((project / output / "06_models").rglob("detector/detector.json")):
        folder, facts = path.parent, read_facts(path)
        made_by, is_kept = facts.get("made_by", {}), folder.parent.parent.name == RUNS
        remarks = ["latest"] if folder == latest else ["kept"] if is_kept else []
        remarks += ["best"] if _is_best(folder, is_kept) else []
        auroc = made_by.get("metrics", {}).get("image_auroc")
        what = f"{facts.get('system', 'unreadable')}" + ("" if auroc is None else f", image AUROC {auroc:.3f}")
        run = f"{made_by.get('made', '')[:16]} {(made_by.get('mlflow_run') or '')[:8]}"
        rows.append((folder.relative_to(project).as_posix(), what, run.strip(), ", ".join(remarks)))
    return rows


def _is_best(folder: Path, is_kept: bool) -> bool:
    """Tell whether a detector is the best of its system on its test images, of the newest and those kept."""
    result = Result.read(folder)
    if result.image_auroc is None:
        return False
    if not is_kept:
        return better_than(folder) is None
    better = better_than(folder.parents[2] / str(result.system) / "detector")
    return better is not None and better.detector == folder


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _project() -> Path:
    if not (Path.cwd() / DATA).is_dir():
        raise CommandLineError(f"there is no '{DATA}' here; go to the project's folder", ExitCode.WRONG_COMMAND)
    return Path.cwd()


def _show(shown: list[Entry], project: Path, console: Console) -> None:
    headers = (Column("store", overflow="fold"), "what", "made by", "last used", "size", "needed by")
    table = Table(*headers, title="Finished work, found by its key")
    for entry in shown:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        needed = ", ".join(entry.needed_by) or "nothing: safe to remove"
        place = entry.folder.relative_to(project / DATA).as_posix()
        table.add_row(place, entry.what, escape(entry.made_by), used, _megabytes(size_of(entry.folder)), needed)
    console.print(table)


@click.group()
def main() -> None:
    """Show what lies in the project's `data`, and remove finished work that nothing needs."""


@main.command("list")
def list_all() -> None:
    """List detectors, which is latest and best, and each entry of the stores with what needs it."""
    project, console = _project(), Console()
    headers = (Column("detector", overflow="fold"), "what", "made", "")
    table = Table(*headers, title="Detectors, which are never cleaned")
    for output in outputs_of(project):
        for row in detector_rows(project, output):
            table.add_row(*map(escape, row))
    console.print(table)
    _show(entries(project), project, console)


@main.command()
def size() -> None:
    """Say how large each part of `data` is; in each a file with several names counts once."""
    project = _project()
    table = Table("folder", "size", "what")
    for store, what in STORES.items():
        if (project / DATA / store).is_dir():
            table.add_row(f"{DATA}/{store}", _megabytes(size_of(project / DATA / store)), f"store of {what}")
    table.add_row(DATA, _megabytes(size_of(project / DATA)), "all, stores too")
    free = size_of(*(entry.folder for entry in removable(entries(project), 0)), freed=True)
    table.add_row("", _megabytes(free), "of it nothing needs: `clean --older-than 0d`")
    Console().print(table)


@main.command()
@click.option("--older-than", required=True, help="when it was last used: 12h, 30d, 8w")
@click.option("--yes", is_flag=True, help="remove it; without, it is only shown")
def clean(older_than: str, yes: bool) -> None:
    """Remove entries of the stores that nothing needs; a run that wants one makes it again."""
    match = _AGE.fullmatch(older_than)
    if match is None:
        raise CommandLineError(f"--older-than: '{older_than}' is no age; give 12h, 30d or 8w", ExitCode.WRONG_COMMAND)
    project = _project()
    chosen = removable(entries(project), int(match[1]) * _SECONDS[match[2]])
    freed = _megabytes(size_of(*(entry.folder for entry in chosen), freed=True))
    if chosen:
        _show(chosen, project, Console())
    if yes:
        remove(chosen, project)
    click.echo(f"{len(chosen)} entries, {freed}: " + ("removed" if yes else "nothing is removed without --yes"))


if __name__ == "__main__":
    main()
