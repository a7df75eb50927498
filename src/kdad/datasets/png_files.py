"""Folders of PNG pictures by file name, from bytes or from figures; Kedro-Viz sees them one below the other."""

import base64
import io
from typing import Any

from kedro_datasets._typing import ImagePreview
from matplotlib.figure import Figure
from PIL import Image

from kdad.datasets.place import PlaceDataset


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
        """Return all pictures in one, base64 PNG."""
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
    buffer = io.BytesIO()
    stacked.save(buffer, format="png")
    return buffer.getvalue()
