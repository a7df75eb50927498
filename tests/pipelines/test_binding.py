"""What Kedro reads of functions that were made out of general ones."""

import inspect
from typing import Any

import pytest
from kedro.pipeline import Node, Pipeline
from kedro.validation import TypeExtractor

from kdad.detectors.detector import Detector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.registry import SYSTEMS
from kdad.parameters.strict import StrictModel
from kdad.pipelines.binding import bind_first, settings_inputs, with_settings
from kdad.scoring.parameters import MeasuringParameters


def general(
    detector: type[Detector],
    settings: StrictModel,
    image_set: list[int],
    measuring: MeasuringParameters,
    statistics: dict[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Return what came in."""
    return detector, settings, image_set, measuring, statistics


def planned(plan: tuple[str, int], measuring: MeasuringParameters, seed: int, *results: int) -> list[Any]:
    """Return what came in."""
    return [plan, measuring, seed, *results]


def models_of(function, inputs) -> dict[str, type]:
    return TypeExtractor({"": Pipeline([Node(function, inputs, "made")])}).extract_types_from_pipelines()


@pytest.mark.parametrize("system", SYSTEMS)
def test_kedro_finds_the_model_of_every_block_of_a_system(system):
    detector = SYSTEMS[system].detector
    inputs = settings_inputs(detector) | {"image_set": "image_set", "measuring": "params:measuring"}
    found = models_of(with_settings(general, detector), inputs)
    own = {name: field.annotation for name, field in detector.Settings.model_fields.items()}
    assert found == own | {"measuring": MeasuringParameters}


def test_optional_arguments_come_last_and_the_bound_ones_are_gone():
    parameters = inspect.signature(with_settings(general, SYSTEMS["mkd"].detector)).parameters
    assert list(parameters) == ["image_set", "measuring", *MkdSettings.model_fields, "statistics"]
    assert parameters["statistics"].default is None
    hints = inspect.get_annotations(with_settings(general, SYSTEMS["mkd"].detector))
    assert not {"detector", "settings"} & set(hints)
    assert set(parameters) <= set(hints)


@pytest.mark.parametrize("statistics", [{}, {"statistics": {"mean": 0.5}}])
def test_blocks_become_the_settings_again(statistics):
    blocks = {
        "source": {},
        "features": {},
        "cloner": {"architecture": {}, "loss": {}, "training": {"epochs": 3}},
        "scoring": {"localisation": ["discrepancy"], "smoothing": {"discrepancy": {}}},
    }
    settings = MkdSettings(**blocks)
    bound = {name: getattr(settings, name) for name in blocks}
    run = with_settings(general, SYSTEMS["mkd"].detector)
    found = run(image_set=[1], measuring=MeasuringParameters(), **bound, **statistics)
    assert found == (SYSTEMS["mkd"].detector, settings, [1], MeasuringParameters(), statistics.get("statistics"))


def test_kedro_accepts_inputs_without_the_optional_one():
    detector = SYSTEMS["stfpm"].detector
    inputs = settings_inputs(detector) | {"image_set": "image_set", "measuring": "params:measuring"}
    Node(with_settings(general, detector), inputs, "made")
    Node(with_settings(general, detector), inputs | {"statistics": "statistics"}, "made")
    with pytest.raises(TypeError, match=r"expected .*'image_set'"):
        Node(with_settings(general, detector), settings_inputs(detector), "made")


def test_a_function_keeps_its_name_and_text():
    for made in (with_settings(general, SYSTEMS["mkd"].detector), bind_first(general, SYSTEMS["mkd"].detector)):
        assert (made.__name__, made.__doc__) == ("general", "Return what came in.")


def test_a_plan_is_bound_and_its_argument_is_gone():
    made = bind_first(planned, ("a", 1))
    assert list(inspect.signature(made).parameters) == ["measuring", "seed", "results"]
    assert made(MeasuringParameters(), 3, 4, 5) == [("a", 1), MeasuringParameters(), 3, 4, 5]
    found = models_of(made, ["params:measuring", "params:seed", "one", "two"])
    assert found == {"measuring": MeasuringParameters}


def test_functions_bound_to_different_things_do_not_share_their_hints():
    first, second = (with_settings(general, SYSTEMS[name].detector) for name in ("mkd", "stfpm"))
    assert "stfpm" in second.__annotations__
    assert "stfpm" not in first.__annotations__
    assert list(inspect.signature(general).parameters)[:2] == ["detector", "settings"]
