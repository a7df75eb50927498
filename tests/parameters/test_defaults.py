"""A parameter's default and description stand in its model alone; `conf/base` shows them."""

import pytest

from commented_parameters import commented
from kdad.detectors.baselines.parameters import BaselineParameters
from parameter_blocks import BASE_FILES, base_parameters


@pytest.mark.parametrize("path", BASE_FILES, ids=lambda path: path.stem)
def test_the_configuration_shows_what_the_models_say(path):
    """Where it does not, ``python tests/commented_parameters.py`` writes it."""
    text = path.read_text()
    assert commented(text) == text


def test_a_default_and_a_comment_that_differ_are_found():
    written = "cloner:\n  training:  # how it is trained\n    epochs: 60  # passes over the training images\n"
    assert commented(written) == written
    assert commented(written.replace("60", "61").replace("how", "where")) == written
    assert commented("scoring:\n  smoothing:\n    discrepancy: {gaussian_sigma: 9.0}\n") != written
    assert commented("stfpm:\n  training:\n    optimiser: adam\n").endswith(
        '    optimiser: "sgd"  # adam | sgd: what steps\n'
    )


def test_options_of_baselines_are_their_defaults():
    for name, method in BaselineParameters.model_validate(base_parameters()["baselines"]).methods.items():
        if method.maps:
            assert type(method.map_options)() == method.map_options, name
