"""What can be asked for by a pipeline's name, and its parameters, checked before a network is imported."""

from typing import Any

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.paper_plan import PLANNED
from kdad.experiments.plan import bind_settings
from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.configuration import block_model, check_values

_MEASURED = ("compute", "measuring", "reporting")
_OF = {name: tuple(system.Settings.model_fields) for name, system in SYSTEMS.items()}
#: The blocks of pipelines that are neither a plan's nor a system's common sum of steps.
_BLOCKS: dict[str, tuple[str, ...]] = {
    "soft_target": ("dataset", *_OF["soft_target"], "compute", "measuring"),
    "inference": ("inference", "compute", "measuring"),
    "watch": ("inference", "compute"),
    "calibration": ("calibration", "compute"),
    "export": ("export", "dataset", "compute"),
    "ingestion": ("dataset", *_OF["mkd"], "teacher", "students", "compute"),
    "features": (*_OF["mkd"], "compute"),
    "cloner": (*_OF["mkd"], "compute"),
    "scoring": ("compute", "measuring"),
    "reporting": ("measuring", "reporting"),
    "teacher": ("dataset", *_OF["uninformed_students"], "compute"),
    "students": ("dataset", *_OF["uninformed_students"], "compute"),
    "ensemble_scoring": ("compute", "measuring"),
    "ensemble_reporting": ("measuring", "reporting"),
}
#: Every pipeline that can be asked for.
KNOWN = ("__default__", *SYSTEMS, *PLANNED, *_BLOCKS)


def check_pipelines(names: list[str], parameters: dict[str, Any]) -> list[str]:
    """Return the names of the pipelines that are meant: that of the default, and of a watch where one is asked for.

    Ends the run with one message for a name that is unknown, or for what is wrong in the parameters of these pipelines.
    """
    meant = [_meant(name, parameters) for name in names]
    for name in meant:
        check_values({block: block_model(block) for block in checked_blocks(name)}, parameters)
        try:
            if name in PLANNED:
                PLANNED[name].plan(parameters)
            elif name in SYSTEMS:
                bind_settings(name, parameters, "parameters")
        except InputError as error:
            raise CommandLineError(str(error)) from error
    return meant


def checked_blocks(name: str) -> tuple[str, ...]:
    """Return the parameter blocks of a pipeline; those of systems in a plan are checked as they are planned."""
    if name in PLANNED:
        return (name, "dataset", *_MEASURED, "workers")
    return _BLOCKS.get(name) or ("dataset", *_OF[name], *_MEASURED)


def _meant(name: str, parameters: dict[str, Any]) -> str:
    if name not in KNOWN:
        raise CommandLineError(f"there is no pipeline '{name}'{nearest_name(name, KNOWN)}", ExitCode.WRONG_COMMAND)
    block = parameters.get("inference")
    if name == "inference" and isinstance(block, dict) and block.get("watch"):
        return "watch"
    return "mkd" if name == "__default__" else name
