"""Progress bars: on a terminal, and gone when their work is done; a log has lines instead. And durations as text."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def progress_bar(*more: ProgressColumn) -> Progress:
    """Return a bar of what is done, how far, and for how long still; `more` columns follow."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more)
    console = get_console()
    # Elsewhere rich would leave an empty line for each bar.
    return Progress(*columns, transient=True, disable=not (console.is_terminal or console.is_jupyter))


def counted(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yield `items` with a bar."""
    with progress_bar() as bar:
        yield from bar.track(items, description=description)


def format_duration(seconds: float) -> str:
    """Return a duration as people say it: ``4.2 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
