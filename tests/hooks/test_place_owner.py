"""A place remembers the root that its results are of; a run on another root is told where its own go."""

import logging
from types import SimpleNamespace

import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from kdad.datasets.typed_json import ThresholdDataset
from kdad.hooks.place_owner import PlaceOwnerHook
from kdad.project.places import OutputFolder, find_owner


@pytest.fixture
def run(tmp_path):
    """Begin a run that writes to places, with claims."""

    def begin(places: list[str], *claims: OutputFolder) -> PlaceOwnerHook:
        hook = PlaceOwnerHook()
        hook.after_context_created(SimpleNamespace(config_loader=SimpleNamespace(claims=claims)))
        names = {f"out{number}": place for number, place in enumerate(places)}
        catalog = DataCatalog(
            {
                name: ThresholdDataset(filepath=str(tmp_path / f"data/07_model_output/{place}/threshold.json"))
                for name, place in names.items()
            }
        )
        nodes = [Node(abs, "in", name, name=name) for name in names]
        hook.before_pipeline_run({"project_path": str(tmp_path)}, Pipeline(nodes), catalog)
        return hook

    return begin


def test_the_places_that_a_run_writes_to_are_recorded_and_no_others(run, tmp_path):
    run(
        ["folder/images"], OutputFolder("folder/images", "/screw/images"), OutputFolder("folder/other", "/screw/images")
    )
    assert find_owner(tmp_path / "data", "folder/images") == "/screw/images"
    assert find_owner(tmp_path / "data", "folder/other") is None


def test_an_embedded_set_leaves_no_record(run, tmp_path):
    run(["textures/brick"], OutputFolder("textures/brick", ""))
    assert not (tmp_path / "data").exists()


def test_a_place_of_another_name_is_said(run, caplog):
    caplog.set_level(logging.INFO, "kdad")
    run(["folder-1/images"], OutputFolder("folder-1/images", "/nut/images", "folder/images"))
    (said,) = caplog.messages
    assert said.startswith(
        "Results of '/nut/images' lie in data/*/folder-1/images, as data/*/folder/images holds those"
    )


def test_a_place_that_another_root_has_taken_since_is_refused(run):
    run(["folder/images"], OutputFolder("folder/images", "/screw/images"))
    with pytest.raises(KedroCliError, match="has just been taken by a run on '/screw/images'; give the same command"):
        run(["folder/images"], OutputFolder("folder/images", "/nut/images"))


@pytest.mark.parametrize(
    ("layer", "left", "owner"),
    [
        (None, None, None),
        ("02_intermediate", "images.csv", "/screw/[1]/images"),
        ("05_model_input", "teacher_patches.parquet", None),  # of natural images
    ],
)
def test_a_new_place_is_given_back_when_a_failed_run_left_nothing_of_the_root(run, tmp_path, layer, left, owner):
    place = "folder/[1]"
    hook = run([place], OutputFolder(place, "/screw/[1]/images"))
    if left is not None:
        folder = tmp_path / "data" / layer / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("")
    hook.on_pipeline_error()
    assert find_owner(tmp_path / "data", place) == owner


def test_a_place_that_was_its_own_before_is_not_given_back(run, tmp_path):
    run(["folder/images"], OutputFolder("folder/images", "/screw/images"))
    run(["folder/images"], OutputFolder("folder/images", "/screw/images")).on_pipeline_error()
    assert find_owner(tmp_path / "data", "folder/images") == "/screw/images"
