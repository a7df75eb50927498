"""Nothing is built, imported or collected at a start that the run does not need."""

import gc
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kdad.hooks.start_up import StartUpHook
from projects import PROJECT, copy_project


@pytest.fixture
def _collector_as_before():
    was, frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    gc.unfreeze()
    if frozen:
        gc.freeze()
    (gc.enable if was else gc.disable)()


@pytest.mark.usefixtures("_collector_as_before")
def test_the_collector_goes_on_without_what_was_imported():
    gc.disable()
    StartUpHook().before_pipeline_run()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("_collector_as_before")
def test_a_collector_that_was_not_stopped_is_left_alone():
    gc.unfreeze()
    gc.enable()
    StartUpHook().before_pipeline_run()
    assert gc.get_freeze_count() == 0


def test_parameters_of_the_default_pipeline_alone_are_checked():
    context = SimpleNamespace(_pipelines_to_validate=None)
    StartUpHook().after_context_created(context)
    assert context._pipelines_to_validate == ["__default__"]


def test_until_a_wrong_parameter_is_told_neither_torch_nor_mlflow_is_imported(tmp_path, migrated_database):
    project = copy_project(tmp_path / "project", migrated_database)
    code = """
import sys
from kedro.framework.cli import main
sys.argv = ["kedro", "run", "--env=test", "--params=cloner.training.epochs=0"]
try:
    main()
except SystemExit as ended:
    print(ended.code, sorted({"torch", "mlflow", "kedro_mlflow", "matplotlib", "sklearn", "captum"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True)
    assert "cloner.training.epochs: Input should be greater than or equal to 1 (given: 0)" in found.stderr
    assert found.stdout.splitlines()[-1] == "3 []"


def test_commands_of_mlflow_are_there_when_they_are_called():
    command = [sys.executable, "-m", "kedro", "mlflow", "--help"]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert found.returncode == 0
    assert "Opens the mlflow user interface" in found.stdout
