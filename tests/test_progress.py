"""Bars on terminals, and nothing at all elsewhere."""

import io

import pytest
from rich.console import Console

from kdad.progress import TimeLeftColumn, counted, format_duration, progress_bar


@pytest.fixture
def console_of(monkeypatch):
    def make(is_terminal: bool) -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr("rich._console", Console(file=written, force_terminal=is_terminal, width=80))
        return written

    return make


def test_a_log_has_no_bar_and_no_empty_line(console_of):
    written = console_of(False)
    assert list(counted(range(3), "Counting")) == [0, 1, 2]
    assert written.getvalue() == ""


def test_a_terminal_has_a_bar_which_is_taken_away(console_of):
    written = console_of(True)
    assert list(counted("ab", "Counting")) == ["a", "b"]
    assert "Counting" in written.getvalue()
    assert written.getvalue().endswith("\x1b[2K")  # the line is cleared
    with progress_bar() as bar:
        assert bar.live.transient


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_notebook_has_a_bar_where_it_has_widgets(monkeypatch, has_widgets):
    monkeypatch.setattr("rich._console", Console(file=io.StringIO(), force_jupyter=True))
    monkeypatch.setattr("kdad.progress.find_spec", lambda name: "found" if has_widgets else None)
    assert progress_bar().disable is not has_widgets


def test_the_time_left_is_said_once_something_is_done_at_the_pace_of_all_of_it(console_of):
    console_of(True)
    now = [0.0]
    bar = progress_bar()
    bar.get_time = lambda: now[0]
    bar.add_task("Training", total=10, completed=4, found=4)
    (task,) = bar.tasks
    left = TimeLeftColumn()
    assert left.render(task).plain == ""
    now[0] = 120.0  # for two of six, however long ago the last one ended
    bar.update(task.id, completed=6)
    assert left.render(task).plain == "4 min 00 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60.0, "1 min 00 s"), (3599.0, "59 min 59 s"), (7380.0, "2 h 03 min")],
)
def test_durations_as_people_say_them(seconds, said):
    assert format_duration(seconds) == said
