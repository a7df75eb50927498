"""The notebook trains on a folder, draws maps, moves the threshold, and opens what it kept."""

import nbformat
import pytest
from nbclient import NotebookClient

from projects import PROJECT

pytestmark = pytest.mark.long


def test_the_notebook_runs_and_finds_its_spots(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    book = nbformat.read(PROJECT / "notebooks/my_folder.ipynb", as_version=4)
    resources = {"metadata": {"path": str(PROJECT / "notebooks")}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]
    assert sum("of new normal images are expected above it" in text for text in texts) == 2
    assert any("'image_auroc': 1.0" in text or "'image_auroc': 0.9" in text for text in texts)
    assert not any('install "ipywidgets"' in text for text in texts)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
