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
        ending = _ending_of(error)
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
