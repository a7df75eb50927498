"""Who is told of losses while a network trains: what logs them is above this room, and not known to it."""

from collections.abc import Callable
from typing import Any

#: Is given what the losses of a network are called, as ``cloner.{split}.{term}``, and an epoch's rows of the history.
LossListener = Callable[[str, list[dict[str, Any]]], None]

_listeners: list[LossListener] = []


def listen(listener: LossListener) -> None:
    """Tell `listener` of every epoch from now on."""
    if listener not in _listeners:
        _listeners.append(listener)


def tell_epoch(metric: str | None, rows: list[dict[str, Any]]) -> None:
    """Tell all listeners an epoch's rows, of a network whose losses are called by a name."""
    for listener in _listeners if metric is not None else ():
        listener(metric, rows)
