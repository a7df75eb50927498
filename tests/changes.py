"""Changing one value of nested parameters."""

import copy


def changed(values: dict, path: str, value) -> dict:
    """Return a copy with one field, given as ``block.field``, set."""
    result = copy.deepcopy(values)
    *blocks, field = path.split(".")
    inner = result
    for block in blocks:
        inner = inner[block]
    inner[field] = value
    return result
