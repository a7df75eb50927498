"""What a person sees of an error: the real command, in a process of its own."""

import subprocess
import sys

import pytest

from projects import copy_project


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        # Refused when parameters are bound, and by a node.
        ("dataset.imagesize=64", "unknown parameter 'imagesize'; did you mean 'image_size'"),
        ("source.weights=nowhere.safetensors", "nowhere.safetensors"),
    ],
)
def test_an_error_is_its_message_alone(tmp_path, migrated_database, parameters, message):
    project = copy_project(tmp_path / "project", migrated_database)
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--params={parameters}"]
    found = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert found.returncode != 0
    _, _, said = found.stderr.partition("Error: ")
    assert message in said
    assert "NoneType" not in found.stdout + found.stderr
    assert "Traceback" not in said
