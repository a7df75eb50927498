"""What glibc does with large freed blocks, seen by the page faults of a process of its own."""

import os
import subprocess
import sys

import pytest

_CODE = """
import resource, sys
import torch
from kdad.freed_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
elif sys.argv[1] == "asked":
    assert not keep_freed_memory()
for _ in range(20):  # until the heap has found its size
    torch.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
#: Of 48 MB, ten times; large pages would hide them.
_PAGES = 10 * 48_000_000 // 4096


def _faults(what: str, **environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _CODE, what]
    return int(subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout)


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc alone")


@pytest.fixture(scope="module")
def left_alone() -> int:
    """How many pages are fetched where malloc is as it is."""
    found = _faults("leave")
    if found < _PAGES / 2:
        pytest.skip("this malloc keeps large blocks by itself, or pages are large")
    return found


@pytest.mark.long
def test_freed_tensors_are_used_again_without_being_fetched_anew(left_alone):
    assert _faults("keep") < left_alone / 50


@pytest.mark.long
def test_so_they_are_in_a_worker_of_dask_that_was_told_to_give_memory_back_at_once(left_alone):
    assert _faults("keep", MALLOC_TRIM_THRESHOLD_="65536") < left_alone / 50


@pytest.mark.long
def test_who_has_set_a_threshold_of_blocks_keeps_it(left_alone):
    assert _faults("asked", MALLOC_MMAP_THRESHOLD_="1048576") > left_alone / 2
