"""What the stores hold is told with who needs it, and nothing goes that the latest or a kept detector needs."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdad.project.command_line import CommandLineError, ExitCode
from kdad.storage.content_store import ContentStore
from kdad.storage.replacing import ProcessLock
from kdad.store import detector_rows, entries, main, outputs_of, removable, remove, size_of

DAY = 86400


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two outputs of a network, of which one is needed; two networks, of which a kept detector needs one."""

    def make(store: str, key: str, days: int, content: bytes = b"12345") -> Path:
        def build(folder: Path) -> None:
            (folder / "values.npy").write_bytes(content)

        folder, _ = ContentStore(tmp_path / "data" / store).obtain(key, build)
        then = time.time() - days * DAY
        os.utime(folder / "checksums.json", (then, then))
        return folder

    monkeypatch.setattr(sys, "orig_argv", ["kedro", "run", "--params=dataset.category=[bottle,pill]"])
    make("04_feature/store", "a" * 16, 40)
    make("04_feature/store", f"images_{'b' * 16}", 40)
    make("06_models/store", "c" * 16, 40)
    make("06_models/store", "d" * 16, 2)
    _write(
        tmp_path,
        "data/test/04_feature/textures/brick/mkd/features.json",
        {"source": f"../../../../../04_feature/store/{'a' * 16}"},
    )
    _write(tmp_path, "conf/test/globals.yml", {"outputs": "data/test"})
    _keep(tmp_path, "textures/brick/runs/2026_mkd/detector", 0.9, learnt="c" * 16)
    _keep(tmp_path, "textures/brick/mkd/detector", 0.8)
    return tmp_path


def _write(project: Path, path: str, content: dict) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text(json.dumps(content))


def _keep(project: Path, place: str, auroc: float, **facts) -> None:
    made_by = {"made": "2026-11-30T11:46:12", "mlflow_run": "51d1a074", "test_images": "t"}
    made_by |= {"metrics": {"image_auroc": auroc}}
    _write(project, f"data/06_models/{place}/detector.json", {"system": "mkd", "made_by": made_by} | facts)


def test_each_entry_says_what_it_is_who_made_it_and_who_needs_it(project):
    found = {entry.folder.name: entry for entry in entries(project)}
    assert found["a" * 16].needed_by == ("textures/brick/mkd",)  # of the environment `test`
    assert found["c" * 16].needed_by == ("textures/brick/runs/2026_mkd",)
    assert found[f"images_{'b' * 16}"].what == "decoded images"
    assert found["d" * 16].made_by.startswith("kedro run")
    assert outputs_of(project) == ["data", "data/test"]


def test_only_what_nothing_needs_and_nobody_has_used_goes(project):
    (chosen,) = removable(entries(project), 30 * DAY)
    assert chosen.folder.name == f"images_{'b' * 16}"
    assert {entry.folder.name[:1] for entry in removable(entries(project), DAY)} == {"i", "d"}
    remove([chosen], project)
    assert sorted(path.name for path in (project / "data/04_feature/store").iterdir()) == ["a" * 16]


def test_nothing_goes_while_a_run_is_going_on(project):
    lock = ProcessLock(project / "data/test/.locks/textures_brick.lock")
    assert lock.take(wait=False)
    with pytest.raises(CommandLineError, match="a run is going on: process") as caught:
        remove(entries(project), project)
    lock.free()
    assert caught.value.exit_code == ExitCode.OCCUPIED
    assert len(entries(project)) == 4


def test_nothing_goes_once_a_run_has_begun_meanwhile(project, monkeypatch):
    lock, remove_tree = ProcessLock(project / "data/.locks/textures_brick.lock"), shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda folder: (remove_tree(folder), lock.take(wait=False)))
    with pytest.raises(CommandLineError, match="a run is going on"):
        remove(entries(project), project)
    lock.free()
    assert len(entries(project)) == 3


def test_what_a_needed_selection_of_rows_is_of_is_needed(project):
    """A class's features are rows of those of every class (`kdad.features.cache.write_selection`)."""
    _write(project, f"data/04_feature/store/{'a' * 16}/manifest.json", {"selected_from": f"../images_{'b' * 16}"})
    assert {entry.folder.name[:1] for entry in removable(entries(project), 0)} == {"d"}


def test_a_project_or_a_category_may_be_called_store(project):
    (project / "data/06_models/textures/brick").rename(project / "data/06_models/textures/store")
    moved = project.rename(project.with_name("store"))
    assert {entry.folder.name[:1] for entry in removable(entries(moved), 0)} == {"i", "d"}


def test_room_is_freed_only_by_files_that_have_no_other_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/file").write_bytes(b"123")
    os.link(tmp_path / "one/file", tmp_path / "two/file")
    assert size_of(tmp_path / "one", freed=True) == 0
    assert size_of(tmp_path / "one", tmp_path / "two", freed=True) == size_of(tmp_path) == 3


def test_the_latest_and_the_best_detector_are_said(project):
    assert [(row[0].split("/")[-2], row[3]) for row in detector_rows(project, "data")] == [
        ("mkd", "latest"),
        ("2026_mkd", "kept, best"),
    ]


def test_the_commands(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "300")
    said = CliRunner().invoke(main, ["list"]).output
    assert "image AUROC 0.900" in said
    assert "safe to remove" in said
    assert "category=[bottle,pill]" in said
    assert "store of maps" not in CliRunner().invoke(main, ["size"]).output  # there is none
    assert "1 entries, 0.0 MB: nothing is removed" in CliRunner().invoke(main, ["clean", "--older-than=30d"]).output
    assert len(entries(project)) == 4
    assert "removed" in CliRunner().invoke(main, ["clean", "--older-than=4w", "--yes"]).output
    assert len(entries(project)) == 3
    wrong = CliRunner().invoke(main, ["clean", "--older-than=30"])
    assert (wrong.exit_code, "give 12h, 30d or 8w" in wrong.output) == (ExitCode.WRONG_COMMAND, True)
    monkeypatch.chdir(project / "conf")
    assert CliRunner().invoke(main, ["list"]).exit_code == ExitCode.WRONG_COMMAND
