"""What Kedro-Viz shows of a pipeline before a box is opened."""

import pytest
from kedro.framework.project import configure_project, settings
from kedro.io import CatalogConfigResolver
from kedro.pipeline import Pipeline
from kedro_viz.constants import ROOT_MODULAR_PIPELINE_ID
from kedro_viz.data_access.repositories.modular_pipelines import ModularPipelinesRepository
from kedro_viz.utils import _hash_input_output

from kdad.pipeline_registry import register_pipelines
from kdad.project.configuration import RunConfigLoader
from projects import PROJECT

RUN = {"paper_tables": {"categories": "brick grass gravel", "seeds": "0 1 2"}}


@pytest.fixture(scope="module")
def loader() -> RunConfigLoader:
    configure_project("kdad")
    return RunConfigLoader(str(PROJECT / "conf"), env="test", runtime_params=RUN, **settings.CONFIG_LOADER_ARGS)


def collapsed(pipeline: Pipeline) -> tuple[set[str], set[str]]:
    """Return the boxes and the data sets that are shown while all boxes are closed."""
    tree = ModularPipelinesRepository()
    tree.populate_tree(pipeline)
    children = {child.id for child in tree.tree[ROOT_MODULAR_PIPELINE_ID].children}
    names = {name for name in pipeline.datasets() if not name.startswith("params:")}
    outside = {name for node in pipeline.nodes if not node.namespace for name in (*node.inputs, *node.outputs)}
    shown = {name for name in names if name in outside or _hash_input_output(name) in children}
    return children & {node.namespace.split(".")[0] for node in pipeline.nodes if node.namespace}, shown


def test_the_papers_tables_are_a_box_a_category_and_a_box_a_system(loader):
    boxes, data = collapsed(register_pipelines()["paper_tables"])
    systems = {f"paper_{name}" for name in ("mkd", "uninformed_students", "baselines", "stfpm", "committee")}
    assert boxes == {"brick", "grass", "gravel"} | systems
    assert data == {
        *("paper_results", "stores"),
        *(f"{name}.{what}" for name in ("brick", "grass", "gravel") for what in ("image_set", "split_table")),
        *(f"{name}.{name}.results" for name in systems),
        *(f"paper_tables.{name}" for name in ("cells", "page", "excerpt", "missing")),
    }


def test_baselines_are_one_box(loader):
    boxes, data = collapsed(register_pipelines()["baselines"])
    assert boxes == {"brick", "baselines"}
    made = ("table", "metrics_by_method", "sheets", "page", "missing", "detectors", "baselines.results")
    assert data == {"stores", "brick.image_set", "brick.split_table", *(f"baselines.{name}" for name in made)}


def test_no_layer_is_of_places(loader):
    resolver = CatalogConfigResolver(loader["catalog"], {})
    for name, pipeline in register_pipelines().items():
        entries = {entry: resolver.resolve_pattern(entry) for entry in pipeline.inputs() if "params:" not in entry}
        raw = {entry for entry, found in entries.items() if _layer(found) == "raw"}
        assert all(entry.endswith(("image_set", "images")) or entry == "paper_results" for entry in raw), name
    assert _layer(loader["catalog"]["stores"]) is None


def _layer(entry: dict) -> str | None:
    return (entry.get("metadata") or {}).get("kedro-viz", {}).get("layer")
