"""The files of `conf` name every parameter that there is, and nothing else."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.plan import ablation_of
from kdad.project import LOADER_ARGS
from kdad.project.configuration import RunConfigLoader, block_model, check_names, check_values
from kdad.project.session import KNOWN, check_pipelines
from parameter_blocks import base_parameters, inner_model
from projects import PROJECT

CONF = PROJECT / "conf"
ENVIRONMENTS = sorted(path.parent.name for path in CONF.glob("*/parameters.yml"))
#: Lists of methods and variants, each of which says only what is its own.
OWN_ALONE = {
    *("baselines.methods", "paper_tables.methods"),
    *(f"{ablation_of(system)}.variants" for system in SYSTEMS),
}
#: What an environment asks the user for.
NEEDED = {name: {"dataset": {"root": "photos"}} for name in ("folder", "mvtec", "paper")}


def unnamed(model: type[BaseModel], values: dict[str, Any], place: str) -> Iterator[str]:
    """Yield the fields of a model, and of the models in it, that `values` do not name."""
    for name, field in model.model_fields.items():
        here = f"{place}.{name}"
        if name not in values:
            yield here
        elif here in OWN_ALONE or values[name] is None:
            continue
        elif (inner := inner_model(field.annotation)) is not None:
            yield from unnamed(inner, values[name], here)
        elif get_origin(field.annotation) is dict and inner_model(get_args(field.annotation)[1]):
            for key, value in values[name].items():
                yield from unnamed(inner_model(get_args(field.annotation)[1]), value, f"{here}.{key}")


@pytest.mark.parametrize("block", [name for name in base_parameters() if name != "seed"])
def test_every_field_stands_in_the_base(block):
    assert list(unnamed(block_model(block), base_parameters()[block], block)) == []


def test_a_field_that_is_not_named_is_found():
    class Inner(BaseModel):
        a: int = 1
        b: int | None = 2

    class Outer(BaseModel):
        inner: Inner | None = None
        by_name: dict[str, Inner] = {}
        plain: list[int] = []

    values = {"inner": {"a": 3}, "by_name": {"x": {"b": None}}}
    assert list(unnamed(Outer, values, "block")) == ["block.inner.b", "block.by_name.x.a", "block.plain"]


def test_every_block_of_every_system_has_a_place_in_the_base():
    of_systems = {block for system in SYSTEMS.values() for block in system.Settings.model_fields}
    assert of_systems <= set(base_parameters())
    assert all(block_model(block) is not None for block in base_parameters())


@pytest.fixture(scope="module", params=[*ENVIRONMENTS, "local"])
def loader(request) -> RunConfigLoader:
    """The configuration of each environment, read once."""
    given = NEEDED.get(request.param, {})
    return RunConfigLoader(str(CONF), env=request.param, runtime_params=given, **LOADER_ARGS)


@pytest.mark.sample(3)
def test_every_environment_binds(loader):
    parameters = loader["parameters"]
    check_names(parameters)
    check_values({block: block_model(block) for block in base_parameters()}, parameters)


def test_mlflow_is_configured_as_kedro_mlflow_has_it(loader):
    from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig  # which imports MLflow

    KedroMlflowConfig.model_validate(dict(loader["mlflow"]))


def test_every_pipeline_of_every_environment_can_be_asked_for(loader):
    parameters = loader["parameters"]
    labelled = parameters["dataset"]["normal_class"] is not None
    asked = [name for name in KNOWN if not name.endswith("_ablation") or name in parameters]
    assert all(len(check_pipelines([name], parameters)) == 1 for name in asked)
    assert labelled == (loader.env in ("cifar10", "digits", "fashion_mnist", "mnist"))


def test_every_file_of_parameters_is_known_to_these_tests():
    files = [path for path in CONF.rglob("*.yml") if "catalog" not in path.parts and path.name != "mlflow.yml"]
    found = {path.relative_to(CONF).parts[0] for path in files}
    assert {name for name in found if not name.endswith(".yml")} - {"local"} == {"base", *ENVIRONMENTS}
    assert not list(CONF.rglob("*.yaml"))
