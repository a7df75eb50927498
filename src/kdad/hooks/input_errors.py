"""How a run ends that met unusable input."""

from kedro.framework.hooks import hook_impl

from kdad.command_line import CommandLineError
from kdad.errors import InputError


class InputErrorHook:
    """Ends a run that met unusable input with its one message, without a traceback."""

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Turn `InputError` into a message of the command line, after the others have closed their runs."""
        found = input_error_of(error)
        if found is not None:
            raise CommandLineError(str(found)) from error


def input_error_of(error: BaseException | None) -> InputError | None:
    """Return the `InputError` behind an error: Kedro wraps what a dataset raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
