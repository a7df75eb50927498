"""How the command line says what is wrong: one message, and an exit code for each kind."""

from enum import IntEnum
from typing import IO

import click
from kedro.framework.cli.utils import KedroCliError


class ExitCode(IntEnum):
    """What a command ends with; 0 is done, 1 a defect of the program, which shows its traceback."""

    WRONG_COMMAND = 2  # an option, environment, pipeline, node, tag, namespace or data set that there is not
    WRONG_PARAMETERS = 3
    UNUSABLE_INPUT = 4  # images, masks, weights, detectors
    INCOMPLETE = 5  # cases that failed, files that could not be read; everything else is done
    DIVERGED = 6
    NOT_TRACKED = 7  # the tracking store cannot be used, and the run was told to need it
    DISK_FULL = 8
    OCCUPIED = 9  # another run writes to the same place
    NO_CLUSTER = 10  # a Dask cluster that does not answer, or has no workers
    INTERRUPTED = 130


class CommandLineError(KedroCliError):
    """Ends a command with one message.

    Kedro's own `show` prints the exception being handled; with click 8.5 there is none by then, and it prints
    "NoneType: None".
    """

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.WRONG_PARAMETERS) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)

    def show(self, file: IO | None = None) -> None:
        """Print the message to standard error."""
        click.secho(f"Error: {self.message}", file=file, fg="red", err=True)
