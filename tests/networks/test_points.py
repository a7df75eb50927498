"""Critical points by name and by position."""

import pytest

from kdad.errors import InputError
from kdad.networks.points import choose_points

_POINTS = ("pool2", "pool3", "pool4", "pool5")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("all", [0, 1, 2, 3]),
        ("first 1", [0]),
        ("first 3", [0, 1, 2]),
        ("last 3", [1, 2, 3]),
        ("last 4", [0, 1, 2, 3]),
        (["pool5", "pool2"], [0, 3]),
        (["pool3", "pool3"], [1]),
        ("pool5 pool2", [0, 3]),
        ("pool3", [1]),
    ],
)
def test_choices_are_positions_in_the_networks_order(choice, expected):
    assert choose_points(choice, _POINTS, "field") == expected


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("last 5", r"field is 'last 5', but there are 4 critical points: pool2, pool3, pool4, pool5"),
        ("last 0", "field is 'last 0'; give 'all', 'first N', 'last N' or a list of names of: "),
        ("pool2 poll4", "field is 'pool2 poll4'; give 'all'"),
        ("first three", "field is 'first three'; give 'all'"),
        ("first 3 ", "give 'all'"),
        ([], "field is empty; choose from: pool2, pool3, pool4, pool5"),
        (["pool3", "poll4"], "field: there is no critical point 'poll4'; did you mean 'pool4'"),
    ],
)
def test_other_choices_are_an_input_error_that_names_the_field(choice, message):
    with pytest.raises(InputError, match=message):
        choose_points(choice, _POINTS, "field")
