"""Errors that end a run with one message, each of a kind that the command line has an exit code for."""


class InputError(ValueError):
    """Input that a run cannot use; the message names the file, field or value and what to do."""


class IncompleteError(InputError):
    """Part of what was asked for is missing, and everything else is done; the message names what is missing."""


class DivergedError(FloatingPointError):
    """A loss that is no longer a number; the message names the network, the epoch and what to do."""
