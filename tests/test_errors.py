"""How messages quote errors and list names."""

import pytest

from kdad.errors import first_line, first_of


def test_all_names_or_the_first_few_and_how_many_more():
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_of([], 2) == ""


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError("gone\nfor good"), "gone"), (ValueError(), "ValueError"), (KeyError("a"), "'a'")]
)
def test_an_error_is_quoted_by_its_first_line_or_its_kind(error, expected):
    assert first_line(error) == expected
