"""How messages list names."""

from kdad.errors import first_of


def test_all_names_or_the_first_few_and_how_many_more():
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_of([], 2) == ""
