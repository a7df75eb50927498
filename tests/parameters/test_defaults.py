"""A parameter's default and description stand in its model alone; `conf/base` shows them."""

import json

import jsonschema
import pytest
import yaml

from commented_parameters import DESCRIBED_FILES, SCHEMAS, commented, first_line, schemas
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


def test_schemas_are_what_the_models_say_and_every_file_names_its_own():
    """Where they are not, ``python tests/commented_parameters.py`` writes them."""
    written = schemas()
    for path, text in written.items():
        assert path.read_text() == text, path
        jsonschema.Draft202012Validator.check_schema(json.loads(text))
    known = {path.resolve(): jsonschema.Draft202012Validator(json.loads(text)) for path, text in written.items()}
    for path in DESCRIBED_FILES:
        text, line = path.read_text(), first_line(path)
        assert text.startswith(line), path
        schema = known[(path.parent / line.strip().partition("$schema=")[2]).resolve()]
        assert [error.message for error in schema.iter_errors(yaml.safe_load(text))] == [], path


def test_schemas_find_what_the_models_find_and_take_what_they_take():
    parameters = jsonschema.Draft202012Validator(json.loads(schemas()[SCHEMAS / "parameters.json"]))
    wrong = ({"sede": 1}, {"seed": -1}, {"cloner": {"trainin": {}}}, {"cloner": {"training": {"schedule": "cosine"}}})
    for values in (*wrong, {"stfpm_ablation": {"seed": 1}}, {"measuring": {"max_fpr": "high"}}):
        assert list(parameters.iter_errors(values)), values
    for values in ({"dataset": {"image_size": "64 128"}}, {"stfpm_ablation": {"seeds": 3}}, {"workers": {}}):
        assert not list(parameters.iter_errors(values)), values
