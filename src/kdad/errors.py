"""The one exception for input that a user can put right."""


class InputError(ValueError):
    """Input that a run cannot use; the message names the file, field or value and what to do."""
