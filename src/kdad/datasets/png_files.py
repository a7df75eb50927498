"""Pictures that are PNG bytes already, by file name."""

from kdad.datasets.place import PlaceDataset


class PngFilesDataset(PlaceDataset):
    """A folder of PNG files; it holds just what was saved last."""

    def load(self) -> dict[str, bytes]:
        """Read the files."""
        return {path.name: path.read_bytes() for path in sorted(self._filepath.glob("*.png"))}

    def save(self, data: dict[str, bytes]) -> None:
        """Write the files, and drop those of an earlier run; none leave no folder."""
        if data:
            self._filepath.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            (self._filepath / name).write_bytes(content)
        for path in self._filepath.glob("*.png"):
            if path.name not in data:
                path.unlink()
