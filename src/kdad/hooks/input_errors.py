"""How a run ends that met unusable input."""

from kedro.framework.hooks import hook_impl

from kdad.command_line import CommandLineError
from kdad.errors import InputError


class InputErrorHook:
    """Ends a run that met unusable input with its one message, without a traceback."""

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Turn `InputError` into a message of the command line, after the others have closed their runs."""
        if isinstance(error, InputError):
            raise CommandLineError(str(error)) from error
