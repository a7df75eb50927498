"""Unknown parameters are named, with the nearest known one."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from kdad.parameters.strict import StrictModel, nearest_name, split_list


class _Inner(StrictModel):
    learning_rate: float = Field(0.1, gt=0)


class _Outer(StrictModel):
    epochs: int = 3
    inner: _Inner = _Inner()


class _Lists(StrictModel):
    seeds: list[int] = [0]
    names: list[Literal["a", "b"]] | None = None
    weights: list[float] = []
    size: int | list[int] = 8
    points: str | list[str] = "all"
    rows: Annotated[list[list[int]], Field(description="by block")] = []


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("seeds", "0 1 2", [0, 1, 2]),
        ("seeds", "0,1, 2", [0, 1, 2]),
        ("seeds", [3, 4], [3, 4]),
        ("seeds", 5, [5]),
        ("names", "a b", ["a", "b"]),
        ("names", None, None),
        ("weights", 0.5, [0.5]),
        ("weights", "0.5 1e-3", [0.5, 0.001]),
        ("size", 32, 32),
        ("size", "32 64", [32, 64]),
        ("points", "first 3", "first 3"),  # text says something of its own here
        ("rows", [[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_lists_in_words_and_single_numbers_are_lists(field, given, expected):
    assert getattr(_Lists.model_validate({field: given}), field) == expected


@pytest.mark.parametrize(("field", "given"), [("seeds", "one"), ("seeds", True), ("names", "a c"), ("rows", "1 2")])
def test_lists_of_the_wrong_things_are_refused(field, given):
    with pytest.raises(ValidationError, match=field):
        _Lists.model_validate({field: given})


def test_lists_in_words_are_separated_by_spaces_or_commas():
    assert split_list(" a, b c,d ") == ["a", "b", "c", "d"]


def test_the_nearest_name_is_offered():
    assert nearest_name("poll3", ["pool2", "pool3", "layer1"]) == "; did you mean 'pool3'?"


def test_all_names_are_listed_in_order_when_none_is_near():
    assert nearest_name("zzz", ["pool3", "layer1"]) == "; known: layer1, pool3"


def test_of_very_many_names_forty_are_listed():
    said = nearest_name("zzz", [f"case_{number:02}" for number in range(42)])
    assert said.startswith("; known: case_00, case_01, ")
    assert said.endswith(", case_39 and 2 more")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown parameter 'epoch'; did you mean 'epochs'"),
        ({"inner": {"learningrate": 1.0}}, "unknown parameter 'learningrate'; did you mean 'learning_rate'"),
        ({"colour": "red"}, "unknown parameter 'colour'; known: epochs, inner"),
        ({"epoch": 3, "iner": {}}, "'epoch'; did you mean 'epochs'.* 'iner'; did you mean 'inner'"),
        ({3: 4}, "unknown parameter '3'"),
    ],
)
def test_unknown_keys_are_refused_at_any_depth(values, message):
    with pytest.raises(ValidationError, match=message):
        _Outer.model_validate(values)


def test_known_keys_bind_and_are_frozen():
    found = _Outer.model_validate({"inner": {"learning_rate": 2}})
    assert (found.epochs, found.inner.learning_rate) == (3, 2.0)
    with pytest.raises(ValidationError, match="frozen"):
        found.epochs = 4
