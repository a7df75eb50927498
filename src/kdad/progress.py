"""Progress bars: on a terminal, and gone when their work is done (a log has lines); who hears of losses; durations."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

Item = TypeVar("Item")

#: Told of each epoch as it ends: what a network's losses are called (``cloner.{split}.{term}``), and its rows of the
#: history. What logs them is above whatever trains, and not known to it.
loss_listeners: list[Callable[[str, list[dict[str, Any]]], None]] = []


class TimeLeftColumn(ProgressColumn):
    """How long the work still takes at the pace of all that is done; nothing before any is."""

    def render(self, task: Task) -> Text:
        """Return the time in words, or an empty text."""
        done, elapsed = task.completed - task.fields.get("found", 0), task.elapsed
        if done <= 0 or not elapsed or task.remaining is None:
            return Text("")
        return Text(f"{format_duration(elapsed * task.remaining / done)} left", style="progress.remaining")


def progress_bar(*more: ProgressColumn, amount: ProgressColumn | None = None) -> Progress:
    """Return a bar of what is done, how far, and for how long still; `more` columns follow.

    The `amount` is told as done/all, where no other column tells it. A task's field ``found`` is how much of it was
    there when it began.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), amount or MofNCompleteColumn(), TimeLeftColumn(), *more)
    console = get_console()
    # Elsewhere rich would leave an empty line for each bar, in a notebook without its widgets a warning.
    is_shown = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return Progress(*columns, transient=True, disable=not is_shown)


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
