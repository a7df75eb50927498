"""How a command ends: one message for what is wrong, an exit code for each kind, Ctrl-C and SIGTERM."""

import os
import signal
import threading
from enum import IntEnum
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Any

import click

from kdad.parameters.strict import nearest_name

if TYPE_CHECKING:
    from click import ClickException as KedroCliError  # which it is a kind of
    from kedro.pipeline import Pipeline
else:
    try:
        from kedro.framework.cli.utils import KedroCliError
    except ImportError:  # where nothing but predicting is installed
        from click import ClickException as KedroCliError

_RUNNERS = ("SequentialRunner", "ParallelRunner", "ThreadRunner")
#: What each option of `kedro run` names.
_OPTIONS = {
    "node_names": ("--nodes", "node"),
    "from_nodes": ("--from-nodes", "node"),
    "to_nodes": ("--to-nodes", "node"),
    "tags": ("--tags", "tag"),
    "namespaces": ("--namespaces", "namespace"),
    "from_inputs": ("--from-inputs", "data set"),
    "to_outputs": ("--to-outputs", "data set"),
}


class ExitCode(IntEnum):
    """What a command ends with; 0 is done, 1 a defect of the program, which shows its traceback."""

    WRONG_COMMAND = 2  # an option, environment, pipeline, node, tag, namespace or data set that there is not
    WRONG_PARAMETERS = 3
    UNUSABLE_INPUT = 4  # images, masks, weights, detectors
    INCOMPLETE = 5  # cases that failed, files that could not be read; everything else is done
    DIVERGED = 6
    NOT_TRACKED = 7  # the tracking store cannot be used, and the run was told to need it
    DISK_FULL = 8
    OCCUPIED = 9  # another run writes to the same place
    NO_CLUSTER = 10  # a Dask cluster that does not answer, or has no workers
    INTERRUPTED = 130


class CommandLineError(KedroCliError):
    """Ends a command with one message.

    Kedro's own `show` prints the exception being handled; with click 8.5 there is none by then, and it prints
    "NoneType: None".
    """

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.WRONG_PARAMETERS) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = int(exit_code)

    def show(self, file: IO | None = None) -> None:
        """Print the message to standard error."""
        click.secho(f"Error: {self.message}", file=file, fg="red", err=True)


def check_runner(name: str | None) -> None:
    """End the command for a runner that is neither Kedro's nor named with its module."""
    if name and "." not in name and name not in _RUNNERS:
        raise _wrong(f"--runner: there is no runner '{name}'{nearest_name(name, list(_RUNNERS))}")


def check_choices(pipeline: "Pipeline", options: dict[str, Any]) -> None:
    """End the command for a node, tag, namespace or data set that `pipeline` does not have, naming the nearest.

    `options` are those of `kedro run`.
    """
    known = names_of(pipeline)
    lines = [
        f"{flag}: there is no {kind} '{name}'{nearest_name(name, sorted(known[kind]))}"
        for option, (flag, kind) in _OPTIONS.items()
        for name in options.get(option) or ()
        if name not in known[kind]
    ]
    if lines:
        raise _wrong("\n".join(lines))


def check_some_node(options: dict[str, Any], error: ValueError) -> None:
    """End the command when Kedro's `error` is that choices which there are leave no node together."""
    if "contains no nodes after applying" in str(error):
        said = " ".join(
            f"{flag}={','.join(options[name])}" for name, (flag, _) in _OPTIONS.items() if options.get(name)
        )
        raise _wrong(f"no node of the pipeline has all of {said}; leave something out") from error


def names_of(pipeline: "Pipeline") -> dict[str, set[str]]:
    """Return the names of nodes, tags, namespaces (at every depth) and data sets, parameters left out."""
    parts = [node.namespace.split(".") for node in pipeline.nodes if node.namespace]
    return {
        "node": {node.name for node in pipeline.nodes},
        "tag": {tag for node in pipeline.nodes for tag in node.tags},
        "namespace": {".".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1)},
        "data set": {name for name in pipeline.datasets() if not name.startswith("params:")},
    }


def _wrong(message: str) -> CommandLineError:
    return CommandLineError(message, ExitCode.WRONG_COMMAND)


#: Seconds after which a signal whose exception was lost is sent again.
_PATIENCE = 2.0


class RaiseOnSignal:
    """While it is entered, SIGINT raises `KeyboardInterrupt` and SIGTERM `SystemExit` until the block is left.

    Python runs a handler wherever the main thread is. In a weak reference's callback or a finaliser, of which imports
    are full, what it raises is printed and lost, and the run would go on. Signals that are ignored, or that somebody
    handles already, are left alone.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "RaiseOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is default:
                    self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._cancel()
        self._timer = threading.Timer(_PATIENCE, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class StopRequested:
    """While it is entered, the first SIGINT or SIGTERM is remembered in `requested`; a second one acts as before.

    For work that has no end of its own, and stops between two pieces of it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequested":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
