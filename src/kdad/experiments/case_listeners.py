"""Who is told of cases while a plan runs: what logs them to MLflow is above this room, and not known to it."""

from typing import Protocol

from kdad.experiments.case import Case
from kdad.experiments.result import CaseResult


class CaseListener(Protocol):
    """Is told of each case once, in the process that was begun by hand, whichever process runs it."""

    def case_begins(self, case: Case) -> None:
        """Take note that a case is begun."""

    def case_ends(self, case: Case, result: CaseResult) -> None:
        """Take note of a case's result, finished or failed."""


_listeners: list[CaseListener] = []


def listen(listener: CaseListener) -> None:
    """Tell `listener` of every case from now on."""
    if listener not in _listeners:
        _listeners.append(listener)


def stop_listening(listener: CaseListener) -> None:
    """Tell `listener` nothing more."""
    if listener in _listeners:
        _listeners.remove(listener)


def tell_begin(case: Case) -> None:
    """Tell all listeners that a case is begun."""
    for listener in _listeners:
        listener.case_begins(case)


def tell_end(case: Case, result: CaseResult) -> None:
    """Tell all listeners a case's result."""
    for listener in _listeners:
        listener.case_ends(case, result)
