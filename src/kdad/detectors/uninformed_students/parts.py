"""Which e and v each map of Uninformed Students adds up, by name: ``e_p17``, ``v_p17`` ..."""

from collections.abc import Sequence

#: Of every receptive field.
_ADDED = {"combined": ("e", "v"), "regression_error": ("e",), "predictive_variance": ("v",)}


def every_part(fields: Sequence[int]) -> list[str]:
    """Return the names of e and v of these receptive fields."""
    return [f"{part}_p{field}" for field in fields for part in ("e", "v")]


def parts_of(method: str, fields: Sequence[int]) -> list[str]:
    """Return which of them a map adds up, such as ``combined`` or ``combined_p17``.

    None for a map of one receptive field where there is no other, since ``combined`` is the same.
    """
    kind, _, only = method.partition("_p") if method.startswith("combined_p") else (method, "", "")
    if only and len(fields) == 1:
        return []
    chosen = [field for field in fields if not only or field == int(only)]
    return [f"{part}_p{field}" for field in chosen for part in _ADDED[kind]]
