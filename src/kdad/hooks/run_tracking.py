"""The run that hooks record to: begun, named, and ended as what it was, FINISHED, FAILED or KILLED."""

import atexit
import getpass
import logging
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.validation.utils import _MISSING, resolve_nested_dict_path

from kdad.hooks.errors import is_unusable_input
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import flatten
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.given_parameters import say_parameters
from kdad.storage.provenance import code_version
from kdad.tracking.destination import Destination, destination_of, unreachable
from kdad.tracking.parameters import TrackingParameters
from kdad.tracking.run import TrackedRun, forget_run, run_of_parent
from kdad.tracking.uploader import Uploader, begin_run


@dataclass
class CurrentRun:
    """What the hooks share: the run, what uploads it, and what the session said of it."""

    run: TrackedRun | None = None
    uploader: Uploader | None = None
    destination: Destination | None = None
    settings: TrackingParameters = field(default_factory=TrackingParameters)
    parameters: dict[str, Any] = field(default_factory=dict)
    project: Path = Path()
    ui: dict[str, str] = field(default_factory=dict)  # where MLflow's pages are shown
    in_case: bool = False  # of a plan

    @property
    def tracked(self) -> TrackedRun | None:
        """The run to record to, in a worker process that of its parent; None when nothing is logged."""
        return self.run if self.run is not None else run_of_parent()

    @property
    def identity(self) -> str | None:
        """MLflow's ID of the run, for which MLflow is waited for while it answers, or else the run's own key."""
        run = self.tracked
        if run is None:
            return None
        if self.uploader is not None and self.uploader.trouble is None:
            self.uploader.wait(lambda: run.experiment is not None, self.settings.patience)
        return run.identity()


logger = logging.getLogger(__name__)

#: Below the project: what MLflow has not taken yet.
WAITING = Path("mlruns") / "waiting"
#: Blocks that say nothing of what a run computes.
_MACHINERY = ("tracking", "workers")


class RunTrackingHook:
    """Begins a run for every `kedro run`, with its parameters, and ends it whatever happens.

    Records go to disk first (`kdad.tracking`); no trouble with MLflow reaches the pipeline.
    """

    def __init__(self, current: CurrentRun) -> None:
        self._current = current
        self._configuration: dict[str, Any] = {}
        atexit.register(self.close)

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep what the session is configured with; its configuration may lie outside its project."""
        context.config_loader.project = Path(context.project_path)
        self._configuration = context.config_loader["mlflow"]
        self._current.ui = self._configuration.get("ui", {})
        self._current.parameters = context.config_loader["parameters"]  # plain: the context has bound its own to models
        self._current.project = Path(context.project_path)
        self._current.settings = TrackingParameters.model_validate(self._current.parameters.get("tracking", {}))

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any) -> None:
        """Begin the run; ends it with one message when it shall not begin without MLflow."""
        self.close()  # of an earlier session of this process that was interrupted
        if not self._current.settings.enabled:
            return
        destination = destination_of(self._configuration, os.environ, "kdad")
        if self._current.settings.when_unreachable == "stop":
            reason = unreachable(destination)
            if reason is not None:
                raise CommandLineError(
                    f"MLflow at {destination.uri} does not answer ({reason}), and tracking.when_unreachable is 'stop'; "
                    "start it, or let it be 'wait' to log the run later",
                    ExitCode.NOT_TRACKED,
                )
        for said in destination.said:
            logger.info(said)
        names = _pipeline_names(run_params)
        tags = _tags(run_params, names, self._current.project)
        waiting = self._current.project / WAITING
        run, uploader = begin_run(destination, waiting, self._name(names), tags, _active_run())
        if run.is_incomplete:  # nothing can be written there, which is said
            forget_run()
            return
        uploader.system_metrics = self._current.settings.system_metrics
        self._current.run, self._current.uploader, self._current.destination = run, uploader, destination
        run.parameters(self._parameters_of(pipeline))
        uploader.start()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """End the run as FINISHED."""
        self._end("FINISHED")

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run as FAILED, with the error; what a person has to put right is told at once, and not waited for.

        A run whose input could not be used before any node has run is not logged.
        """
        run, unusable = self._current.run, is_unusable_input(error)
        if run is not None and (run.has_begun or not unusable):
            run.fail(f"{type(error).__name__}: {error}")
        self._end("FAILED", wait=not unusable)

    def _name(self, names: list[str]) -> str:
        """Name a run after pipeline, data and source, or, of a kept detector, after what it is given."""
        parameters = self._current.parameters
        if names in (["inference"], ["watch"], ["calibration"]):
            block = parameters["calibration" if names == ["calibration"] else "inference"]
            return f"{names[0]} {block['images'] or 'validation scores'} by {block['detector']}"
        if names == ["comparison"]:
            block = parameters["comparison"]
            return f"comparison on {block['images']} of {' and '.join(block['detectors'] or ())}"
        if names == ["export"]:
            block = parameters["export"]
            return f"export {block['detector']} for {block['runtime']} in {block['precision']}"
        dataset = parameters["dataset"]
        category = DatasetParameters.model_validate(dataset).category_name
        source = (parameters.get("source") or {}).get("name", "")
        return f"{'+'.join(names)} {dataset['name']}/{category} {source} seed {parameters['seed']}"

    def _parameters_of(self, pipeline: Any) -> dict[str, Any]:
        """Return every parameter that the pipeline takes, by dotted names."""
        blocks = {name.removeprefix("params:") for name in pipeline.inputs() if name.startswith("params:")}
        chosen = sorted(name for name in blocks if name.partition(".")[0] not in _MACHINERY)
        found = {name: resolve_nested_dict_path(self._current.parameters, name) for name in chosen}
        return flatten({name: value for name, value in found.items() if value not in (_MISSING, None)})

    def _end(self, status: str, wait: bool = True) -> None:
        run, uploader = self._current.run, self._current.uploader
        self._current.run = self._current.uploader = None
        forget_run()
        destination = self._current.destination
        if run is None or uploader is None or destination is None:
            return
        run.end(status)
        begun = run.has_begun  # otherwise nothing was to be done, so there is nothing to log
        written = not begun or (wait and uploader.finish(self._current.settings.patience))
        uploader.stop(2.0 if wait else 0.0)
        if written:
            run.remove()
        else:
            run.give_up()
            logger.log(
                logging.WARNING if wait else logging.INFO,
                "MLflow at %s has not taken all of this run%s; the rest waits in %s and is sent by the next run, or by "
                "`python -m kdad.tracking`",
                *(destination.uri, f" ({uploader.trouble})" if uploader.trouble else "", run.path),
            )

    def close(self) -> None:
        """End as KILLED a run that is still open: it was interrupted."""
        if self._current.run is not None and self._current.run.is_owner:
            self._current.run.mark_begun()
            self._end("KILLED")


def _pipeline_names(run_params: dict[str, Any]) -> list[str]:
    names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
    return ["mkd" if name in (None, "__default__") else name for name in names]


def _tags(run_params: dict[str, Any], names: list[str], project: Path) -> dict[str, str]:
    commit = code_version(project) or "unknown"
    return {
        "pipeline": "+".join(names),
        "environment": run_params.get("env") or "local",
        "command": command_of(run_params),
        "commit": commit,
        "mlflow.source.git.commit": commit.partition("+")[0],
        "mlflow.source.name": project.name,
        "mlflow.source.type": "PROJECT",
        "mlflow.user": getpass.getuser(),
    }


def command_of(run_params: dict[str, Any], arguments: list[str] | None = None) -> str:
    """Return the command that began a run, as it can be given again; of a session in Python, the one that equals it."""
    given = sys.argv if arguments is None else arguments
    if len(given) > 1 and Path(given[0]).name in ("kedro", "kedro.exe") and "run" in given:
        return shlex.join(["kedro", *given[1:]])
    words = ["kedro", "run", f"--pipelines={','.join(_pipeline_names(run_params))}"]
    options = {"env": run_params.get("env"), "tags": ",".join(run_params.get("tags") or [])}
    options |= {"nodes": ",".join(run_params.get("node_names") or [])}
    for name in ("from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces"):
        options[name.replace("_", "-")] = ",".join(run_params.get(name) or [])
    words += [f"--{name}={value}" for name, value in options.items() if value]
    extra = run_params.get("runtime_params") or run_params.get("extra_params")
    if extra:
        words.append(f"--params={say_parameters(extra)}")
    return shlex.join(words)


def _active_run() -> str | None:
    """Return the run that a notebook has opened: this one becomes its child, and that one stays as it is."""
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow is not None else None
    if active is None:
        return None
    logger.info("this run is logged as a child of the active MLflow run '%s'", active.info.run_name)
    return active.info.run_id
