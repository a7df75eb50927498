"""How the command line says what is wrong."""

from typing import IO

import click
from kedro.framework.cli.utils import KedroCliError


class CommandLineError(KedroCliError):
    """Ends a command with one message.

    Kedro's own `show` prints the exception being handled; with click 8.5 there is none by then, and it prints
    "NoneType: None".
    """

    def show(self, file: IO | None = None) -> None:
        """Print the message to standard error."""
        click.secho(f"Error: {self.message}", file=file, fg="red", err=True)
