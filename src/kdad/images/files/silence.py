"""Silencing warnings where several threads may be at it."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_inside = 0
_lock = threading.Lock()
_kept = ExitStack()


@contextmanager
def silenced_warnings() -> Iterator[None]:
    """Ignore warnings while any thread is in such a block.

    The first in keeps the filters and the last out puts them back: `warnings.catch_warnings` of two threads that
    overlap would put back each other's, and leave warnings ignored for good.
    """
    global _inside
    with _lock:
        if not _inside:
            _kept.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _kept.close()
