"""`kedro run` in this project: parameters that YAML can say, and one message for what is wrong."""

import atexit
import copy
import gc
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import pipelines, settings
from kedro.pipeline import Pipeline

from kdad.hooks.run_tracking import RunTrackingHook
from kdad.hooks.stage_lines import StageLinesHook
from kdad.project.command_line import (
    CommandLineError,
    ExitCode,
    RaiseOnSignal,
    check_choices,
    check_runner,
    check_some_node,
)
from kdad.project.given_parameters import parse_parameters

_PARAMS_HELP = (
    "Parameters as name=value, separated by commas; lists in brackets, other text as it is, in quotes where it holds "
    "', name='. Example: dataset.image_size=[64,128],dataset.root=/data/a b,mkd_ablation.seeds=0 1 2"
)


@click.group(context_settings=CONTEXT_SETTINGS, name="kdad")
def cli() -> None:
    """Commands of this project."""


class RunCommand(click.Command):
    """Runs pipelines without looking for garbage among what is imported: that takes a third of the start, and the end.

    The garbage collector goes on when the first node begins (`StartUpHook`).
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run; Ctrl-C ends with a message and an exit code of its own."""
        gc.disable()
        atexit.register(gc.freeze)
        try:
            with RaiseOnSignal():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            message = "interrupted; the same command again takes what is finished, and goes on from the last checkpoint"
            raise CommandLineError(message, ExitCode.INTERRUPTED) from None
        finally:
            gc.enable()
            for hook in settings.HOOKS:  # on Ctrl-C Kedro calls none
                if isinstance(hook, StageLinesHook | RunTrackingHook):
                    hook.close()


def _run(**options: Any) -> Any:
    check_runner(options["runner"])
    if options["pipeline"] and not options["pipelines"]:
        # Both options stay; Kedro warns of the older one, and who has typed it for years need not act.
        options |= {"pipeline": None, "pipelines": [options["pipeline"]]}
    assert kedro_run.callback is not None
    try:
        return kedro_run.callback(**options)
    except ValueError as error:
        # Kedro looks for what was chosen when the pipelines are built, which costs nothing once more.
        names = options["pipelines"] or ["__default__"]
        check_choices(sum((pipelines[name] for name in names), Pipeline([])), options)
        check_some_node(options, error)
        raise


def _parse(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else parse_parameters(value)  # a dictionary comes from --config


def _options() -> list[click.Parameter]:
    found = [copy.copy(option) for option in kedro_run.params]
    (given,) = (option for option in found if option.name == "params")
    given.callback, given.help = _parse, _PARAMS_HELP
    return found


run = RunCommand("run", params=_options(), callback=_run, help=kedro_run.help)
cli.add_command(run)
