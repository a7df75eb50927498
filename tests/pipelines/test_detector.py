"""What Kedro reads of functions whose first argument is fixed."""

import inspect
from typing import Any

import pytest
from kedro.pipeline import Node, Pipeline
from kedro.validation import TypeExtractor

from kdad.pipelines.detector import bind_first
from kdad.scoring.parameters import MeasuringParameters


def general(system: str, images: list[int], measuring: MeasuringParameters, **blocks: Any) -> tuple[Any, ...]:
    """Return what came in."""
    return system, images, measuring, blocks


INPUTS = {"images": "images", "measuring": "params:measuring", "cloner": "params:cloner"}


def test_the_first_argument_is_fixed_and_gone():
    made = bind_first(general, "mkd")
    assert list(inspect.signature(made).parameters) == ["images", "measuring", "blocks"]
    assert made([1], MeasuringParameters(), cloner=2) == ("mkd", [1], MeasuringParameters(), {"cloner": 2})
    assert (made.__name__, made.__doc__) == ("general", "Return what came in.")


def test_kedro_finds_the_models_of_hinted_arguments_and_leaves_other_blocks_as_they_are():
    node = Node(bind_first(general, "mkd"), INPUTS, "made")
    found = TypeExtractor({"": Pipeline([node])}).extract_types_from_pipelines()
    assert found == {"measuring": MeasuringParameters}


def test_kedro_wants_every_argument_that_is_left():
    with pytest.raises(TypeError, match=r"expected .*'images'"):
        Node(bind_first(general, "mkd"), {"measuring": "params:measuring"}, "made")


def test_functions_bound_to_different_things_stay_apart():
    first, second = (bind_first(general, name) for name in ("mkd", "stfpm"))
    assert (first([], None)[0], second([], None)[0]) == ("mkd", "stfpm")
    assert next(iter(inspect.signature(general).parameters)) == "system"
