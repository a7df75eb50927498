"""Errors that end a run with one message, each of a kind with an exit code; how messages and the log show names."""

#: As `extra` of a record of the log: brackets are text and no colours, since names of files may hold them.
PLAIN = {"markup": False}


class InputError(ValueError):
    """Input that a run cannot use; the message names the file, field or value and what to do."""


class IncompleteError(InputError):
    """Part of what was asked for is missing, and everything else is done; the message names what is missing."""


class DivergedError(FloatingPointError):
    """A loss that is no longer a number; the message names the network, the epoch and what to do."""


class ClusterError(RuntimeError):
    """A Dask cluster that does not answer, or is of no use any longer; the message says what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, the name of its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def first_of(names: list[str], shown: int) -> str:
    """Return names for a message, all or the first few: ``a, b and 3 more``."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
