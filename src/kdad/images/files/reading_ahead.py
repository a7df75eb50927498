"""Reading files in threads, while what was read before is worked on.

Decoders and resizing let go of Python's lock, so threads decode as fast as processes do, and nothing has to be carried
between them (docs/lab/performance.md).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def reading_threads() -> int:
    """Return how many threads may read: as many as torch may use, and none where that is one."""
    import torch  # late: what an image set is, is known without

    threads = torch.get_num_threads()
    return threads if threads > 1 else 0


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int = 16
) -> Iterator[Result]:
    """Yield ``read(item)`` of each item in order; up to `ahead` results wait read, by `threads`, or none by 0.

    What `read` raises is raised in the place of its result, and nothing more is read then.
    """
    if threads < 1:
        yield from map(read, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="reading") as readers:
        due = deque(readers.submit(read, item) for item in islice(waiting, ahead))
        try:
            while due:
                found = due.popleft().result()
                due.extend(readers.submit(read, item) for item in islice(waiting, 1))
                yield found
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
