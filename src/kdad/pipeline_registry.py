"""The pipelines that users can name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from kedro.pipeline import Pipeline

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.paper_plan import plan_baselines, plan_tables
from kdad.experiments.plan import SUFFIX, bind_settings, plan_ablation
from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.configuration import block_model, check_values, session_parameters

#: Systems whose pipeline is not the common sum of steps.
_OF_THEIR_OWN = ("uninformed_students", "baselines", "soft_target")
_MEASURED = ("compute", "measuring", "reporting")


@dataclass(frozen=True)
class Registered:
    """A pipeline that can be named: the parameter blocks that its nodes take, and the function that builds it.

    The function is named below ``kdad.pipelines``, and imported when the pipeline is built: nodes import torch, which
    takes longer than to say that a parameter is wrong. A pipeline with a plan is built from that. Of a pipeline that is
    a system's, blocks are checked against one another too.
    """

    blocks: tuple[str, ...]
    function: str
    arguments: tuple[Any, ...] = ()
    plan: Callable[[], Any] | None = None
    system: str | None = None

    def check(self, parameters: dict[str, Any]) -> None:
        """End the run with one message for blocks that do not fit their models, or a plan that cannot be made."""
        check_values({name: block_model(name) for name in self.blocks}, parameters)
        try:
            if self.system is not None:
                bind_settings(self.system, parameters, "parameters")
            if self.plan is not None:
                self.plan()
        except InputError as error:
            raise CommandLineError(str(error)) from error

    def build(self) -> Pipeline:
        """Import the function and call it."""
        module, _, name = f"kdad.pipelines.{self.function}".rpartition(".")
        arguments = self.arguments if self.plan is None else (self.plan(),)
        return getattr(import_module(module), name)(*arguments)


def register_pipelines() -> Mapping[str, Pipeline]:
    """Return the pipelines by name, each built when it is asked for: a mistake stops those alone that it concerns."""
    parameters = session_parameters()
    mkd, taught = _blocks("mkd"), _blocks("uninformed_students")
    by_sum = {name: _system(name, parameters) for name in SYSTEMS if name not in _OF_THEIR_OWN}
    return BuiltWhenAsked(
        {
            "__default__": by_sum["mkd"],
            **by_sum,
            "uninformed_students": Registered(("dataset", *taught, *_MEASURED), "teacher.sums.create_system"),
            "soft_target": Registered(
                ("dataset", *_blocks("soft_target"), "compute", "measuring"), "soft_target.create_pipeline"
            ),
            "baselines": _planned("baselines", lambda: plan_baselines(parameters)),
            "paper_tables": _planned("paper_tables", lambda: plan_tables(parameters), "paper_tables"),
            **{name: _ablation(name, parameters) for name in parameters if name.endswith(SUFFIX)},
            "inference": _inference(parameters),
            "calibration": Registered(("calibration", "compute"), "calibration.create_pipeline"),
            "export": Registered(("export", "dataset", "compute"), "export.create_pipeline"),
            # Steps alone, on what the steps before them have left.
            "ingestion": Registered(("dataset", *mkd, "teacher", "students", "compute"), "sums.create_ingestion"),
            "features": Registered((*mkd, "compute"), "sums.create_seen", ("mkd",)),
            "cloner": Registered((*mkd, "compute"), "detector.pipeline.create_fitting", ("mkd",)),
            "scoring": Registered(("compute", "measuring"), "detector.pipeline.create_scoring", ("mkd",)),
            "reporting": Registered(("measuring", "reporting"), "reporting.create_pipeline", ("mkd",)),
            "teacher": Registered(("dataset", *taught, "compute"), "teacher.sums.create_taught"),
            "students": Registered(("dataset", *taught, "compute"), "teacher.sums.create_students"),
            "ensemble_scoring": Registered(
                ("compute", "measuring"), "detector.pipeline.create_scoring", ("uninformed_students",)
            ),
            "ensemble_reporting": Registered(
                ("measuring", "reporting"), "reporting.create_pipeline", ("uninformed_students",)
            ),
        },
        parameters,
    )


def _blocks(system: str) -> tuple[str, ...]:
    return tuple(SYSTEMS[system].Settings.model_fields)


def _system(name: str, parameters: dict[str, Any]) -> Registered:
    by_dataset = (parameters.get("source") or {}).get("input_normalisation") == "dataset"
    statistics = by_dataset and "source" in _blocks(name)
    blocks = ("dataset", *_blocks(name), *_MEASURED)
    return Registered(blocks, "sums.create_system", (name, statistics), system=name)


def _inference(parameters: dict[str, Any]) -> Registered:
    block = parameters.get("inference")
    watch = isinstance(block, dict) and bool(block.get("watch"))
    if watch:
        return Registered(("inference", "compute"), "inference.create_watch")
    return Registered(("inference", "compute", "measuring"), "inference.create_pipeline")


def _planned(module: str, plan: Callable[[], Any], *blocks: str) -> Registered:
    function = f"comparison.{module}.create_pipeline"
    return Registered((*blocks, "dataset", *_MEASURED), function, plan=cache(plan))


def _ablation(name: str, parameters: dict[str, Any]) -> Registered:
    return _planned("ablation", lambda: plan_ablation(parameters, name), name)


class BuiltWhenAsked(Mapping[str, Pipeline]):
    """Pipelines by name; one is built, and its parameters are checked before, when it is first asked for."""

    def __init__(self, registered: Mapping[str, Registered], parameters: dict[str, Any]) -> None:
        self._registered, self._parameters = registered, parameters
        self._built: dict[str, Pipeline] = {}

    def __getitem__(self, name: str) -> Pipeline:
        """Build a pipeline; a name that is unknown, or a mistake in its parameters, ends the run with one message."""
        if name not in self:
            near = nearest_name(name, list(self._registered))
            raise CommandLineError(f"there is no pipeline '{name}'{near}", ExitCode.WRONG_COMMAND)
        if name not in self._built:
            self._registered[name].check(self._parameters)
            self._built[name] = self._registered[name].build()
        return self._built[name]

    def __contains__(self, name: object) -> bool:
        return name in self._registered

    def __iter__(self) -> Iterator[str]:
        return iter(self._registered)

    def __len__(self) -> int:
        return len(self._registered)
