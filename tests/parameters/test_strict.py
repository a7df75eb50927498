"""Unknown parameters are named, with the nearest known one."""

import pytest
from pydantic import Field, ValidationError

from kdad.parameters.strict import StrictModel, nearest_name


class _Inner(StrictModel):
    learning_rate: float = Field(0.1, gt=0)


class _Outer(StrictModel):
    epochs: int = 3
    inner: _Inner = _Inner()


def test_the_nearest_name_is_offered():
    assert nearest_name("poll3", ["pool2", "pool3", "layer1"]) == "; did you mean 'pool3'?"


def test_all_names_are_listed_in_order_when_none_is_near():
    assert nearest_name("zzz", ["pool3", "layer1"]) == "; known: layer1, pool3"


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
