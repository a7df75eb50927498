"""Making a node's function out of a general one: a system's settings as typed parameters, fixed arguments left out."""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, get_type_hints

from kdad.detectors.detector import Detector


def with_settings(function: Callable[..., Any], detector: type[Detector]) -> Callable[..., Any]:
    """Return `function` with `detector` fixed, and the blocks of its settings as arguments of their own.

    Kedro binds a node's parameters by its hints: each block is one, of the model that the system says. `function`
    begins with the arguments ``detector`` and ``settings``.
    """
    blocks = {name: field.annotation for name, field in detector.Settings.model_fields.items()}

    def run(**inputs: Any) -> Any:
        settings = detector.Settings(**{name: inputs.pop(name) for name in blocks})
        return function(detector, settings, **inputs)

    hints = {name: hint for name, hint in get_type_hints(function).items() if name not in ("detector", "settings")}
    own = list(inspect.signature(function).parameters.values())[2:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, annotation=hint) for name, hint in blocks.items()]
    update_wrapper(run, function)  # Kedro-Viz shows the function's code
    # Those that may be absent come last: Kedro tells arguments by their places.
    arguments = sorted(
        [*(each.replace(kind=keyword) for each in own), *added], key=lambda each: each.default is not each.empty
    )
    run.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    run.__annotations__ = blocks | hints
    del run.__wrapped__  # its hints are those of the general function
    return run


def settings_inputs(detector: type[Detector]) -> dict[str, str]:
    """Return the node inputs that `with_settings` takes."""
    return {name: f"params:{name}" for name in detector.Settings.model_fields}


def bind_first(function: Callable[..., Any], first: Any) -> Callable[..., Any]:
    """Return `function` with its first argument fixed, under its own name.

    Plans are bound and not inputs, because what a node takes as parameters is logged in the parent run.
    """
    bound = partial(function, first)
    signature, hints = inspect.signature(bound), get_type_hints(function)
    update_wrapper(bound, function)
    del bound.__wrapped__
    bound.__signature__ = signature  # type: ignore[attr-defined]
    bound.__annotations__ = {name: hint for name, hint in hints.items() if name in signature.parameters}
    return bound
