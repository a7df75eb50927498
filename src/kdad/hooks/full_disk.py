"""How a run ends whose disk is full."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from kdad.datasets.place import PlaceDataset, file_of
from kdad.hooks.input_errors import known_error_of
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.storage.disk_space import disk_full, is_full


class FullDiskHook:
    """Ends a run with one message that names what could not be written, and removes what was half written.

    Kedro's own data sets write in place; those of this project take their place whole, and leave what was there.
    """

    def __init__(self) -> None:
        self._catalog: Any = None
        self._begun: dict[str, Path] = {}

    @hook_impl
    def after_catalog_created(self, catalog: Any) -> None:
        """Keep the catalog, whose entries say where they lie."""
        self._catalog = catalog
        self._begun.clear()

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Note the file."""
        dataset = self._catalog.get(dataset_name)
        if hasattr(dataset, "_filepath") and not isinstance(dataset, PlaceDataset):
            self._begun[dataset_name] = file_of(dataset)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """It is whole."""
        self._begun.pop(dataset_name, None)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Remove what is not whole, and say what is missing, after the others have closed their runs."""
        begun = list(self._begun.values())
        self._begun.clear()
        if not is_full(error):
            return
        for path in begun:
            if path.is_file():
                path.unlink()
        if known_error_of(error) is None:  # which says it already
            raise CommandLineError(str(disk_full(begun[0] if begun else Path.cwd())), ExitCode.DISK_FULL) from error
