"""Kedro-Viz shows a pipeline's layers only where they do not lead in a circle."""

from graphlib import TopologicalSorter

import pytest
from kedro.io import CatalogConfigResolver

from kdad.pipeline_registry import register_pipelines
from kdad.project import LOADER_ARGS
from kdad.project.configuration import RunConfigLoader
from projects import PROJECT


@pytest.fixture(scope="module")
def loader() -> RunConfigLoader:
    return RunConfigLoader(str(PROJECT / "conf"), env="test", **LOADER_ARGS)


def layers_after(pipeline, layer_of) -> dict[str, set[str]]:
    """Return for each layer those that it directly follows, through data without a layer too."""
    before: dict[str, set[str]] = {}
    feature_set: dict[str, set[str]] = {}
    for node in pipeline.nodes:  # in topological order
        reached = set()
        for name in node.inputs:
            layer = layer_of(name)
            reached |= {layer} if layer else feature_set.get(name, set())
        for name in node.outputs:
            layer = layer_of(name)
            if layer:
                before.setdefault(layer, set()).update(reached - {layer})
            else:
                feature_set[name] = reached
    return before


def test_layers_of_every_pipeline_follow_one_another(loader):
    resolver = CatalogConfigResolver(loader["catalog"], {})

    def layer_of(name: str) -> str | None:
        if name.startswith("params:"):
            return None
        found = resolver.resolve_pattern(name)
        return found.get("metadata", {}).get("kedro-viz", {}).get("layer")

    for name, pipeline in register_pipelines().items():
        order = list(TopologicalSorter(layers_after(pipeline, layer_of)).static_order())
        assert order, name
