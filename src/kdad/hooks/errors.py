"""How a run ends that cannot begin or go on: one message for a missing file, bad input, a full disk."""

import errno
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from kdad.datasets.place import PlaceDataset, file_of
from kdad.errors import ClusterError, DivergedError, IncompleteError, InputError
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.storage.disk_space import DiskFullError, disk_full, is_full

#: The exit code of each kind of error; the first that fits.
_KINDS: dict[type[Exception], ExitCode] = {
    IncompleteError: ExitCode.INCOMPLETE,
    DiskFullError: ExitCode.DISK_FULL,
    InputError: ExitCode.UNUSABLE_INPUT,
    DivergedError: ExitCode.DIVERGED,
    ClusterError: ExitCode.NO_CLUSTER,
}
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: What readers raise for a file that was cut short or changed.
_DAMAGE = (ValueError, EOFError, OSError)


class MissingInputHook:
    """Ends a run with one message for every file that it would read and that is not there."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Look for each file that no node of the pipeline makes; first of all hooks, before a run is opened."""
        if run_params.get("only_missing_outputs"):
            return  # what is read depends on what is there
        lines = [
            f"  '{name}', {file_of(catalog.get(name))}{_made_by(name)}"
            for name in sorted(pipeline.inputs())
            if not name.startswith("params:") and _is_missing(catalog.get(name))
        ]
        if lines:
            message = "these files are read and are not there:\n" + "\n".join(lines)
            raise CommandLineError(message, ExitCode.UNUSABLE_INPUT)


def _is_missing(dataset: Any) -> bool:
    """Say whether a dataset is a file or folder that must be there and is not."""
    is_file = getattr(dataset, "_filepath", None) is not None
    return is_file and not dataset.exists()


def _made_by(name: str) -> str:
    """Say which pipeline makes a data set, where one does."""
    for pipeline, found in pipelines.items():
        if name in found.all_outputs():
            command = "kedro run" if pipeline == "__default__" else f"kedro run --pipelines={pipeline}"
            return f": `{command}` makes it"
    return ""


class RunErrorHook:
    """Ends a run that met an error of a person's making with its one message, without a traceback, and an exit code.

    Of a full disk it names what could not be written, and removes what was half written: Kedro's own data sets write in
    place; those of this project take their place whole, and leave what was there.
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
        """Turn the error into a message of the command line, after the others have closed their runs."""
        begun, ending = list(self._begun.values()), _ending_of(error)
        self._begun.clear()
        if is_full(error):
            for path in begun:
                if path.is_file():
                    path.unlink()
            if known_error_of(error) is None:
                ending = str(disk_full(begun[0] if begun else Path.cwd())), ExitCode.DISK_FULL
        if ending is not None:
            raise CommandLineError(*ending) from error


def is_unusable_input(error: Exception) -> bool:
    """Whether a person has to put the input right."""
    ending = _ending_of(error)
    return ending is not None and ending[1] is ExitCode.UNUSABLE_INPUT


def _ending_of(error: Exception) -> tuple[str, ExitCode] | None:
    """Return the message and the exit code of an error that a person has to put right; None of any other."""
    known = known_error_of(error)
    if known is not None:
        return str(known), next(code for kind, code in _KINDS.items() if isinstance(known, kind))
    forbidden = _forbidden_file(error)
    if forbidden is not None:
        return forbidden, ExitCode.UNUSABLE_INPUT
    if isinstance(error, DatasetError) and "while loading" in str(error) and isinstance(error.__cause__, _DAMAGE):
        first = str(error).splitlines()[0]
        return f"{first} ({error.__cause__}); make it again with the pipeline that makes it", ExitCode.UNUSABLE_INPUT
    return None


def known_error_of(error: BaseException | None) -> BaseException | None:
    """Return the error of a known kind behind an error: Kedro wraps what a dataset raises."""
    while error is not None and not isinstance(error, tuple(_KINDS)):
        error = error.__cause__
    return error


def _forbidden_file(error: BaseException | None) -> str | None:
    """Say which file may not be read or written, if that is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FORBIDDEN:
            return f"'{error.filename}' may not be read or written ({error.strerror}); change its rights or its place"
        error = error.__cause__ or error.__context__
    return None
