"""The notebook on Uninformed Students runs on what a pipeline run has left, and draws real figures."""

import nbformat
import numpy as np
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_mkd_ablation import images

from projects import FEW, PROJECT, copy_project, run_pipeline

pytestmark = pytest.mark.long

NOTEBOOK = PROJECT / "notebooks" / "uninformed_students.ipynb"


def execute(project, monkeypatch) -> nbformat.NotebookNode:
    monkeypatch.setenv("KDAD_PROJECT", str(project))
    monkeypatch.setenv("KDAD_ENV", "test")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(book, timeout=180, kernel_name="python3", resources=resources).execute()


def test_the_notebook_draws_patches_descriptors_and_maps(tmp_path, migrated_database, monkeypatch):
    project = copy_project(tmp_path / "project", migrated_database)
    # The notebook reads the same configuration as the run, so few images are asked for there.
    path = project / "conf/test/parameters.yml"
    parameters = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(parameters | {"dataset": parameters["dataset"] | {"textures": FEW}}))
    run_pipeline(project, "test", "uninformed_students")
    book = execute(project, monkeypatch)
    assert "Loading data" not in nbformat.writes(book)  # Kedro's log
    drawn = images(book)
    assert len(drawn) == 3
    for image in drawn:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 200  # photographs and maps, not empty panels


def test_a_project_without_a_run_stops_the_notebook(project, monkeypatch):
    with pytest.raises(CellExecutionError) as stopped:
        execute(project, monkeypatch)
    assert stopped.value.ename == "DatasetError"  # rich has replaced the traceback, so the message has none
    assert "uninformed_students/frozen.json" in stopped.value.evalue


def test_the_notebook_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
