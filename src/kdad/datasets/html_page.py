"""An HTML page that stands alone, with its first figure as the preview."""

import os
import re
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview

_EMBEDDED_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


class HtmlPageDataset(AbstractDataset[str, str]):
    """A self-contained HTML file; replaced as a whole."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> str:
        """Read the page."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write to a temporary name, then rename."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._filepath.with_suffix(".tmp")
        temporary.write_text(data, encoding="utf-8")
        os.replace(temporary, self._filepath)

    def preview(self) -> ImagePreview:
        """Return the page's first embedded figure, base64 PNG, for Kedro-Viz, which shows no HTML."""
        found = _EMBEDDED_PNG.search(self.load())
        return ImagePreview(found[1] if found else "")

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
