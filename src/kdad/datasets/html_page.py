"""An HTML page that stands alone, with its first figure as the preview."""

import re

from kedro_datasets._typing import ImagePreview

from kdad.datasets.place import PlaceDataset
from kdad.replacing import replace_text

_EMBEDDED_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


class HtmlPageDataset(PlaceDataset):
    """A self-contained HTML file; replaced as a whole."""

    def load(self) -> str:
        """Read the page."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the page."""
        replace_text(self._filepath, data)

    def preview(self) -> ImagePreview:
        """Return the page's first embedded figure, base64 PNG, for Kedro-Viz, which shows no HTML."""
        found = _EMBEDDED_PNG.search(self.load())
        return ImagePreview(found[1] if found else "")
