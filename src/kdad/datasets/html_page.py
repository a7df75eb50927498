"""An HTML page that stands alone, with its first table as the preview."""

from kedro_datasets._typing import TablePreview

from kdad.datasets.place import PlaceDataset
from kdad.reporting.html_tables import first_table
from kdad.storage.replacing import replace_text

_PREVIEWED = 40  # rows


class HtmlPageDataset(PlaceDataset):
    """A self-contained HTML file; replaced as a whole."""

    def load(self) -> str:
        """Read the page."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the page."""
        replace_text(self._filepath, data)

    def preview(self) -> TablePreview:
        """Return the page's first table for Kedro-Viz, which shows no HTML."""
        return TablePreview(first_table(self.load()).head(_PREVIEWED).to_dict(orient="split"))
