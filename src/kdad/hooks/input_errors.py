"""How a run ends that met something a person has to put right."""

import errno

from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError

from kdad.errors import ClusterError, DivergedError, IncompleteError, InputError
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.storage.disk_space import DiskFullError

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


class InputErrorHook:
    """Ends a run that met such an error with its one message, without a traceback, and the exit code of its kind."""

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Turn the error into a message of the command line, after the others have closed their runs."""
        found = known_error_of(error)
        if found is not None:
            code = next(code for kind, code in _KINDS.items() if isinstance(found, kind))
            raise CommandLineError(str(found), code) from error
        forbidden = _forbidden_file(error)
        if forbidden is not None:
            raise CommandLineError(forbidden, ExitCode.UNUSABLE_INPUT) from error
        if isinstance(error, DatasetError) and "while loading" in str(error) and isinstance(error.__cause__, _DAMAGE):
            message = f"{str(error).splitlines()[0]} ({error.__cause__}); make it again with the pipeline that makes it"
            raise CommandLineError(message, ExitCode.UNUSABLE_INPUT) from error


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
