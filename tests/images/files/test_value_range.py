"""Ranges of values against numbers worked out by hand."""

import numpy as np
import pytest

from kdad.errors import InputError
from kdad.images.files.value_range import (
    EIGHT_BITS,
    ValueRange,
    choose_range,
    describe_range,
    kind_of,
    summed_limits,
    used_limits,
)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "8-bit"), ("uint16", "integer"), (">u2", "integer"), ("int32", "integer"), ("float32", "float")],
)
def test_kinds(dtype, kind):
    assert kind_of(np.zeros(2, dtype)) == kind


def test_values_between_the_limits_are_scaled_and_others_cut_off():
    scaled = ValueRange(kind="integer", low=100, high=300).scale(np.uint16([0, 100, 150, 300, 65535]))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [0, 0, 0.25, 1, 1]


def test_a_thousandth_of_the_pixels_is_left_out_at_either_end():
    assert used_limits(np.arange(1001, dtype=np.uint16)) == (1, 999)
    hot = np.full((100, 100), 500, dtype=np.uint16)
    hot[0, :9] = 65535  # 9 of 10,000 pixels
    assert used_limits(hot) == (500, 500)


def test_a_twentieth_of_the_images_is_left_out_at_either_end():
    # 21 images: the quantiles 0.05 and 0.95 lie at the second from either end.
    assert summed_limits([(low, 100 + low) for low in range(21)]) == (1, 119)


@pytest.mark.parametrize(
    ("kind", "limits", "always", "expected"),
    [
        ("integer", (51241, 52181), False, (51006, 52416)),  # 940 are used, 235 more at either side
        ("integer", (100, 1100), False, (0, 1350)),  # not below 0
        ("integer", (60000, 65000), False, (58750, 65535)),  # not above what the type holds
        ("integer", (0, 40000), False, (0, 65535)),  # more than half is used
        ("integer", (0, 40000), True, (0, 50000)),
        ("integer", (-100, 300), False, (-200, 400)),
        ("integer", (0, 100_000), False, (0, 125_000)),  # of 32 bits, beyond 16
        ("8-bit", (0, 250), False, (0, 255)),
        ("8-bit", (100, 140), True, (90, 150)),
        ("float", (0.0, 0.75), False, (0, 1)),
        ("float", (0.25, 0.5), False, (0.1875, 0.5625)),
        ("float", (-2.0, 2.0), False, (-3, 3)),
    ],
)
def test_the_types_own_where_it_is_well_used_else_what_is_used_with_a_quarter_more(kind, limits, always, expected):
    chosen = choose_range(kind, limits, always)
    assert (chosen.kind, chosen.low, chosen.high) == (kind, *expected)
    assert chosen.is_types_own == (expected in [(0, 255), (0, 65535), (0, 1)])


def test_one_single_value_is_refused():
    with pytest.raises(InputError, match=r"the one value 7, .*dataset\.value_range as \[low, high\]"):
        choose_range("integer", (7, 7))


def test_what_is_said_names_the_values_and_the_parameter():
    said, _ = describe_range(ValueRange(kind="integer", low=51006, high=52416), (51241, 52181))
    assert said == (
        "integer values, of which training images use 51,241 to 52,181 (the type: 0 to 65,535); 51,006 becomes 0 and "
        "52,416 becomes 1 (dataset.value_range)"
    )


def test_large_fractions_are_said_as_whole_numbers():
    said, _ = describe_range(ValueRange(kind="float", low=-0.5, high=2000.5), (0.25, 1500.5))
    assert "use 0.25 to 1,500 (the type: 0 to 1); -0.5 becomes 0 and 2,000 becomes 1" in said


def test_less_than_a_quarter_of_the_range_is_advised_upon():
    assert describe_range(EIGHT_BITS, (100, 164))[1] is None  # 64 of 255 are more than a quarter
    advice = describe_range(EIGHT_BITS, (100, 163))[1]
    assert "use 24.7% of the range" in advice
    assert "dataset.value_range=data" in advice
