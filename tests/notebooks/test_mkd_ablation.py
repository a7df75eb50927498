"""The notebook runs from a summary alone and draws the figures of that summary."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from omegaconf import OmegaConf
from PIL import Image

from projects import PROJECT

pytestmark = pytest.mark.long

NOTEBOOK = PROJECT / "notebooks" / "mkd_ablation.ipynb"
AXES = ("layer_count", "cloner_size", "loss_terms", "filter")


def execute(summary: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    monkeypatch.setenv("KDAD_ABLATION_SUMMARY", str(summary))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(book, timeout=120, kernel_name="python3", resources=resources).execute()


def imagined_summary() -> pd.DataFrame:
    """Every variant of the four axes with two seeds."""
    axes = OmegaConf.load(PROJECT / "conf/base/parameters/ablation.yml").mkd_ablation.variants
    rows = [
        (axis, variant, "brick", seed, metric, 0.9 - 0.02 * place + 0.005 * seed)
        for axis in AXES
        for place, variant in enumerate(axes[axis].variants)
        for seed in (0, 1)
        for metric in ("image_auroc", "pixel_auroc", "pro_auc", "pixel_auroc_mkd_protocol")
    ]
    return pd.DataFrame(rows, columns=["axis", "variant", "category", "seed", "metric", "value"])


def images(book: nbformat.NotebookNode) -> list[Image.Image]:
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    found = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_the_notebook_draws_the_four_figures(tmp_path, monkeypatch):
    summary = imagined_summary()
    summary[summary["axis"] != "cloner_size"].to_parquet(tmp_path / "summary.parquet")
    assert len(images(execute(tmp_path / "summary.parquet", monkeypatch))) == len(AXES)  # of one that was not run, why
    summary.to_parquet(tmp_path / "summary.parquet")
    drawn = images(execute(tmp_path / "summary.parquet", monkeypatch))
    assert len(drawn) == len(AXES)
    for image in drawn:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.width > 500
        assert len(np.unique(pixels, axis=0)) > 20  # a figure without bars or lines has hardly any colours


def test_a_summary_that_is_not_there_stops_the_notebook(tmp_path, monkeypatch):
    with pytest.raises(CellExecutionError, match="FileNotFoundError"):
        execute(tmp_path / "none.parquet", monkeypatch)


def test_the_notebook_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
