"""Keeping the memory of freed tensors for the next ones."""

import ctypes
import os
import sys
from functools import cache

# Of glibc's <malloc.h>.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: Bytes of one tensor, and of all that is free at the end of the heap, beyond which memory is given back.
LARGEST_KEPT, FREE_AT_END = 1 << 28, 1 << 29
#: Who has set this knows better.
_SET_BY_USER = "MALLOC_MMAP_THRESHOLD_"


@cache
def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed tensors of up to 256 MB for this process; tell whether it does.

    By itself it gives back what is larger than 32 MB at once, and the next training step fetches it anew, page by page:
    up to a third of a large step's processor time (docs/lab/performance.md). Elsewhere than with glibc, or where
    ``MALLOC_MMAP_THRESHOLD_`` is set, nothing is changed.
    """
    if not sys.platform.startswith("linux") or os.environ.get(_SET_BY_USER):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    wanted = {MMAP_THRESHOLD: LARGEST_KEPT, TRIM_THRESHOLD: FREE_AT_END}
    return all(bool(set_option(option, value)) for option, value in wanted.items())
