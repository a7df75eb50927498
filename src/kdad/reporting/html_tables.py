"""Tables read back from a page."""

from html.parser import HTMLParser

import pandas as pd


def first_table(page: str) -> pd.DataFrame:
    """Return the page's first table that has a head, as text; heads of several rows are joined by column."""
    reader = _Reader()
    reader.feed(page)
    names = [" ".join(filter(None, parts)) for parts in zip(*reader.heads, strict=True)]
    return pd.DataFrame(reader.rows, columns=names)


class _Reader(HTMLParser):
    """Collects the cells of the first table with a head."""

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
