"""Pages of imagined comparisons, for tests."""

import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from PIL import Image
from synthetic import AXIS, results

from kdad.experiments.case import tidy
from kdad.experiments.pages import axis_section, draw_axis, render_ablation, render_baselines
from kdad.experiments.papers import compare, render_tables
from kdad.experiments.tables import axis_table, category_table, compare_pairs

RUN = "run 0922272e, 2026-11-30 18:49"
METHODS = ("nearest", "memory_bank", "vae", "mkd")


def imagined_page(missing: list[dict] | None = None) -> str:
    """Return a page with one axis of two variants."""
    table = axis_table(tidy(results()), "form", AXIS)
    pairs = compare_pairs(results(), lambda _: None, "form", AXIS, 200, np.random.default_rng(0))
    categories = category_table(tidy(results()), "form", AXIS)
    settings = {"a": {}, "b": {"cloner.loss.value_weight": 2, "note": "<script>alert(1)</script>"}}
    section = axis_section("form", AXIS.question, table, pairs, draw_axis(table, AXIS.question), settings, categories)
    return render_ablation("MKD ablation", "textures (brick)", "last epoch", [section], pd.DataFrame(missing or []))


def imagined_baselines() -> str:
    """Return a page of three methods, one of which does not map, a trained detector, and a sheet of 1900 pixels."""
    rows = [
        {"method": name, "sees": "source", "image_auroc": auroc, "image_auroc_low": auroc - 0.05}
        | {"image_auroc_high": auroc + 0.05, "pixel_auroc": pixel, "pro_auc": pixel, "pixel_auroc_mkd_protocol": pixel}
        | {"fit_seconds": 12.0, "milliseconds_an_image": 2.0, "kept_megabytes": 1.0, "peak_megabytes": 9.0}
        for name, auroc, pixel in zip(METHODS, (0.7, 0.9, 0.8, 0.75), (0.85, 0.95, np.nan, 0.9), strict=True)
    ]
    rows[-1] |= {"run": RUN, "fit_seconds": np.nan}
    sheet = io.BytesIO()
    Image.new("RGB", (1900, 900), "navy").save(sheet, format="png")
    return render_baselines("Baselines", "textures", pd.DataFrame(rows), {"nearest": sheet.getvalue()}, pd.DataFrame())


def imagined_papers() -> str:
    """Return a page of a table of three classes and their mean, of one method that was run and eleven printed ones."""
    columns = ["table", "metric", "category", "method", "value", "std", "source"]
    printed = pd.DataFrame(
        [
            ("mkd_one_class", "image_auroc_percent", category, method, 90.0 - place, None, "Table 2")
            for category in ("0", "1", "10", "mean")
            for place, method in enumerate(["MKD", *(f"Method {number}" for number in range(11))])
        ],
        columns=columns,
    )
    figures = [("mkd", category, 0, "image_auroc_percent", value) for category, value in _OURS.items()]
    ours = pd.DataFrame(figures, columns=["method", "category", "seed", "metric", "value"])
    return render_tables("The papers' tables", "digits", compare(printed, ours, {"mkd": ["MKD"]}), pd.DataFrame(), [])


_OURS = {"0": 95.0, "1": 85.5, "10": 99.0}


def first_table(page: str) -> pd.DataFrame:
    """Return the page's first table that has a head, as text; heads of several rows are joined by column."""
    reader = _TableReader()
    reader.feed(page)
    names = [" ".join(filter(None, parts)) for parts in zip(*reader.heads, strict=True)]
    return pd.DataFrame(reader.rows, columns=names)


class _TableReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.heads: list[list[str]] = []
        self.rows: list[list[str]] = []
        self._part: list[list[str]] | None = None
        self._cell: list[str] | None = None
        self._span = 1
        self._done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._done:
            return
        if tag in ("thead", "tbody", "tfoot"):
            self._part = self.heads if tag == "thead" else self.rows if self.heads else None
        elif tag == "tr" and self._part is not None:
            self._part.append([])
        elif tag in ("th", "td") and self._part is not None:
            self._cell, self._span = [], int(dict(attrs).get("colspan") or 1)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td") and self._cell is not None:
            self._part[-1] += [" ".join("".join(self._cell).split())] * self._span
            self._cell = None
        elif tag == "table" and self.heads:
            self._done, self._part = True, None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)
