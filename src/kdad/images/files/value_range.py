"""Which of a file's values become 0 and 1: the type's limits, or what the training images use."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from kdad.errors import InputError
from kdad.parameters.strict import StrictModel

#: How a file's values are kept: 8 bits (or fewer), wider integers (grey of 16 or 32 bits), or floats.
ValueKind = Literal["8-bit", "integer", "float"]

#: What each kind can hold; integers of 32 bits are read as if they had 16.
TYPE_LIMITS: dict[ValueKind, tuple[float, float]] = {"8-bit": (0, 255), "integer": (0, 65535), "float": (0, 1)}

_SAMPLED = 1 << 16  # pixels of an image that its limits are taken of
_TAIL = 0.001  # of an image's pixels at either end: dead and hot pixels
_FEW_IMAGES = 0.05  # of the images at either end: exposures that went wrong
_MARGIN = 0.25  # of what is used, at either side: room for defects that are brighter or darker than all normal images
_WELL_USED = 0.5  # of the type's range: then the type's limits serve
_BADLY_USED = 0.25


class ValueRange(StrictModel):
    """The values of files of one `kind` that become 0 and 1; those beyond are cut off."""

    kind: ValueKind
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ascending(self) -> "ValueRange":
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self

    @property
    def is_types_own(self) -> bool:
        """Whether these are the limits of the type."""
        return (self.low, self.high) == TYPE_LIMITS[self.kind]

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Return raw `values` as float32 in [0, 1]."""
        scaled = np.subtract(values, self.low, dtype=np.float64)
        scaled /= self.high - self.low
        return np.clip(scaled, 0, 1, out=scaled).astype(np.float32)


#: What files of photographs are.
EIGHT_BITS = ValueRange(kind="8-bit", low=0, high=255)


def kind_of(values: np.ndarray) -> ValueKind:
    """Return the kind of raw values."""
    if values.dtype.kind == "f":
        return "float"
    return "8-bit" if values.dtype.itemsize == 1 else "integer"


def used_limits(values: np.ndarray) -> tuple[float, float]:
    """Return what the raw `values` of an image lie between, all but a thousandth of them at either end."""
    flat = values.reshape(-1)
    sample = flat[:: max(flat.size // _SAMPLED, 1)]
    low, high = np.quantile(sample, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def summed_limits(limits: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return what the limits of many images lie between, all but a twentieth of the images at either end."""
    lows, highs = np.array(list(limits), dtype=np.float64).reshape(-1, 2).T
    return float(np.quantile(lows, _FEW_IMAGES)), float(np.quantile(highs, 1 - _FEW_IMAGES))


def choose_range(kind: ValueKind, limits: tuple[float, float], always: bool = False) -> ValueRange:
    """Return the range for images that use these `limits`.

    It is the type's own where half of that is used; else (or `always`) what is used, with a quarter of it more at
    either side. Raises `InputError` for images of one single value.
    """
    low, high = limits
    least, most = TYPE_LIMITS[kind]
    if not always and least <= low and high <= most and high - low >= _WELL_USED * (most - least):
        return ValueRange(kind=kind, low=least, high=most)
    if not high > low:
        raise InputError(
            f"the training images hold nearly everywhere the one value {low:g}, so that no range can be taken from "
            "them; look at the files, or give dataset.value_range as [low, high]"
        )
    margin = _MARGIN * (high - low)
    below, above = low - margin, high + margin
    if kind != "float":
        below, above = float(np.floor(below)), float(np.ceil(above))
    # No file holds what its type cannot, and values that are never negative do not become so.
    below = max(below, least) if low >= least else below
    above = min(above, most) if high <= most and kind != "float" else above
    return ValueRange(kind=kind, low=below, high=above)


def describe_range(values: ValueRange, limits: tuple[float, float]) -> tuple[str, str | None]:
    """Say what the training images use and what becomes 0 and 1; and a warning where they use less than a quarter."""
    least, most = TYPE_LIMITS[values.kind]
    said = (
        f"{values.kind} values, of which training images use {_said(limits[0])} to {_said(limits[1])} "
        f"(the type: {_said(least)} to {_said(most)}); {_said(values.low)} becomes 0 and {_said(values.high)} becomes "
        "1 (dataset.value_range)"
    )
    share = (limits[1] - limits[0]) / (values.high - values.low)
    if share >= _BADLY_USED:
        return said, None
    return said, (
        f"the training images use {share:.1%} of the range that their values are scaled by ({_said(limits[0])} to "
        f"{_said(limits[1])} of {_said(values.low)} to {_said(values.high)}): what tells defects apart may be lost; "
        "dataset.value_range=data scales by what they use"
    )


def _said(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
