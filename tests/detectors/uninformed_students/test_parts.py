"""Which e and v each map adds up, written out."""

import pytest

from kdad.detectors.uninformed_students.parts import every_part, parts_of


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("combined", [17, 33], ["e_p17", "v_p17", "e_p33", "v_p33"]),
        ("regression_error", [17, 33], ["e_p17", "e_p33"]),
        ("predictive_variance", [33], ["v_p33"]),
        ("combined_p33", [17, 33], ["e_p33", "v_p33"]),
        ("combined_p33", [33], []),
        ("combined_p65", [17, 33], []),
    ],
)
def test_what_a_map_adds_up(method, fields, expected):
    assert parts_of(method, fields) == expected


def test_every_part():
    assert every_part([17, 65]) == ["e_p17", "v_p17", "e_p65", "v_p65"]
