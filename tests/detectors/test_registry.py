"""Systems are known by their settings, and found by the place of their detector."""

import subprocess
import sys

import pytest

from kdad.detectors.registry import SYSTEMS


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_registered_as_what_it_is(name):
    detector = SYSTEMS[name].detector
    assert (detector.system, detector.Settings) == (name, SYSTEMS[name].Settings)


def test_settings_are_known_without_a_network_imported():
    code = "import sys, kdad.detectors.registry; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
