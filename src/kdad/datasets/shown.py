"""What people look at: pages, and with a preview for Kedro-Viz pictures and tidy tables."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from kedro_datasets._typing import ImagePreview, TablePreview
from kedro_datasets.pandas import CSVDataset
from matplotlib.figure import Figure
from PIL import Image

from kdad.datasets.place import PlaceDataset
from kdad.reporting.html import svg_of
from kdad.reporting.overlays import encode_picture
from kdad.storage.replacing import replace_text


class HtmlPageDataset(PlaceDataset):
    """A self-contained HTML file; replaced as a whole."""

    def load(self) -> str:
        """Read the page."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the page."""
        replace_text(self._filepath, data)


class FigureDataset(PlaceDataset):
    """A figure as a PNG file; of a `filepath` that ends in ``.svg`` that too, which pages and papers show sharp."""

    def load(self) -> Image.Image | bytes:
        """Read the file of that name: a picture, or the text of an SVG."""
        content = self._filepath.read_bytes()
        return Image.open(io.BytesIO(content), formats=("PNG",)) if self._png == self._filepath else content

    def save(self, data: Figure) -> None:
        """Write the figure."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        self._png.write_bytes(_png(data))
        if self._png != self._filepath:
            self._filepath.write_bytes(svg_of(data))

    def preview(self) -> ImagePreview:
        """Return the PNG, base64."""
        return ImagePreview(base64.b64encode(self._png.read_bytes()).decode())

    @property
    def _png(self) -> Path:
        return self._filepath.with_suffix(".png")


class PngFilesDataset(PlaceDataset):
    """A folder of PNG files; it holds just what was saved last."""

    def load(self) -> dict[str, bytes]:
        """Read the files."""
        return {path.name: path.read_bytes() for path in sorted(self._filepath.glob("*.png"))}

    def save(self, data: dict[str, Any]) -> None:
        """Write the files, and drop those of an earlier run; none leave no folder."""
        if data:
            self._filepath.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            (self._filepath / name).write_bytes(content)
        for path in self._filepath.glob("*.png"):
            if path.name not in data:
                path.unlink()

    def preview(self) -> ImagePreview:
        """Return all pictures one below the other, base64 PNG."""
        return ImagePreview(base64.b64encode(_stack(list(self.load().values()))).decode())


class FiguresDataset(PngFilesDataset):
    """A folder of figures as PNG files."""

    def save(self, data: dict[str, Figure]) -> None:
        """Write the figures, and drop those of an earlier run; none leave no folder."""
        super().save({name: _png(figure) for name, figure in data.items()})


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _stack(pictures: list[bytes]) -> bytes:
    """Put pictures one below the other, each as it is, on white; none make an empty one."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    size = max((one.width for one in opened), default=1), sum(one.height for one in opened) or 1
    stacked, top = Image.new("RGB", size, "white"), 0
    for one in opened:
        stacked.paste(one, (0, top))
        top += one.height
    return encode_picture(stacked)


class TidyTableDataset(CSVDataset):
    """A CSV file with a row an observation."""

    def preview(
        self, nrows: int = 40, rows: Sequence[str] = (), columns: str = "", values: Sequence[str] = ()
    ) -> TablePreview:
        """Return the table in its wide form: a row for each of `rows`, a column for each value of `columns`.

        Cells are the means of `values` over whatever else there is, such as seeds.
        """
        wide = widen(self.load(), list(rows), columns, list(values))
        return TablePreview(wide.head(nrows).to_dict(orient="split"))


def widen(table: pd.DataFrame, rows: list[str], columns: str, values: list[str]) -> pd.DataFrame:
    """Pivot a tidy table by means; rows and columns keep the order in which they come, what is not there is empty.

    With several `values` each column's name is followed by its value's, and columns of nothing are left out.
    """
    means = table.groupby([*rows, columns], sort=False)[values].mean().unstack(columns, sort=False)
    names = [(name, value) for name in dict.fromkeys(table[columns]) for value in values]
    kept = [(name, value) for name, value in names if means[value, name].notna().any()]
    wide = pd.DataFrame(
        {f"{name} {value}" if len(values) > 1 else str(name): means[value, name] for name, value in kept},
        index=means.index,
    )
    return wide.map(_cell).reset_index()


def _cell(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.4g}"
