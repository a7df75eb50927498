"""The pipelines that users can name."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kedro.pipeline import Pipeline
from pydantic import ValidationError

from kdad.command_line import CommandLineError
from kdad.comparison.paper_plan import plan_baselines, plan_tables
from kdad.comparison.plan import SUFFIX, plan_ablation
from kdad.configuration import check_pipeline, session_parameters
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.parameters.strict import every_message
from kdad.pipelines import calibration, inference, ingestion, reporting, soft_target
from kdad.pipelines.comparison import ablation, baselines, paper_tables
from kdad.pipelines.detector.pipeline import create_features, create_fitting, create_frozen, create_scoring
from kdad.pipelines.teacher import create_pipeline as create_teacher

#: Systems whose pipeline is not the common sum of steps.
_OF_THEIR_OWN = ("baselines", "soft_target")


def register_pipelines() -> Mapping[str, Pipeline]:
    """Return the pipelines by name, each built when it is asked for: a mistake stops those alone that it concerns."""
    parameters = session_parameters()
    systems = {name: (lambda name=name: _system(name, parameters)) for name in SYSTEMS if name not in _OF_THEIR_OWN}
    ablations = {
        name: (lambda name=name: ablation.create_pipeline(plan_ablation(parameters, name)))
        for name in parameters
        if name.endswith(SUFFIX)
    }
    return BuiltWhenAsked(
        {
            "__default__": systems["mkd"],
            **systems,
            **ablations,
            "baselines": lambda: baselines.create_pipeline(plan_baselines(parameters)),
            "soft_target": soft_target.create_pipeline,
            "paper_tables": lambda: paper_tables.create_pipeline(plan_tables(parameters)),
            "inference": inference.create_pipeline,
            "calibration": calibration.create_pipeline,
            # Steps alone, on what the steps before them have left.
            "ingestion": lambda: (
                ingestion.create_pipeline() + ingestion.create_statistics() + ingestion.create_patches()
            ),
            "features": lambda: create_frozen("mkd") + create_features("mkd"),
            "cloner": lambda: create_fitting("mkd"),
            "scoring": lambda: create_scoring("mkd"),
            "reporting": lambda: reporting.create_pipeline("mkd"),
            "teacher": lambda: ingestion.create_pipeline() + ingestion.create_patches() + create_teacher(),
            "students": lambda: create_features("uninformed_students") + create_fitting("uninformed_students"),
            "ensemble_scoring": lambda: create_scoring("uninformed_students"),
            "ensemble_reporting": lambda: reporting.create_pipeline("uninformed_students"),
        },
        parameters,
    )


def _system(name: str, parameters: dict[str, Any]) -> Pipeline:
    """Return a system as the sum of its steps."""
    by_dataset = (parameters.get("source") or {}).get("input_normalisation") == "dataset"
    statistics = by_dataset and "source" in SYSTEMS[name].Settings.model_fields
    if name == "uninformed_students":
        prepared = ingestion.create_patches() + create_teacher()
    else:
        prepared = create_frozen(name, statistics)
    return (
        ingestion.create_pipeline()
        + (ingestion.create_statistics() if statistics else Pipeline([]))
        + prepared
        + create_features(name)
        + create_fitting(name)
        + create_scoring(name)
        + reporting.create_pipeline(name)
    )


class BuiltWhenAsked(Mapping[str, Pipeline]):
    """Pipelines by name; one is built, and its parameters are checked, when it is first asked for."""

    def __init__(self, builders: dict[str, Callable[[], Pipeline]], parameters: dict[str, Any]) -> None:
        self._builders, self._parameters = builders, parameters
        self._built: dict[str, Pipeline] = {}

    def __getitem__(self, name: str) -> Pipeline:
        """Build a pipeline; a mistake in its parameters ends the run with one message."""
        if name not in self._built:
            build = self._builders[name]
            try:
                found = build()
            except InputError as error:
                raise CommandLineError(str(error)) from error
            except ValidationError as error:
                lines = every_message(error, name)
                raise CommandLineError("parameters cannot be used:\n" + "\n".join(lines)) from error
            check_pipeline(found, self._parameters)
            self._built[name] = found
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)
