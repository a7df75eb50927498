"""Nodes of one function that serve several systems or plans: its first argument says which, and is fixed."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any


def bind_first(function: Callable[..., Any], first: Any) -> Callable[..., Any]:
    """Return `function` with its first argument fixed; Kedro reads name, hints and arguments, Kedro-Viz the code."""

    @wraps(function)
    def bound(*arguments: Any, **named: Any) -> Any:
        return function(first, *arguments, **named)

    bound.__signature__ = inspect.signature(partial(function, first))  # type: ignore[attr-defined]
    return bound
