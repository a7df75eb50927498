"""Configuration of a run: parameters bound before anything starts, and where a data set's outputs lie."""

from pathlib import Path
from typing import Any, ClassVar

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from kdad.command_line import CommandLineError
from kdad.comparison.paper_plan import plan_tables
from kdad.comparison.plan import Plan, plan_ablation
from kdad.errors import InputError
from kdad.parameters.run import RunParameters, bind_parameters


class RunConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with three resolvers and parameters checked against their models.

    ``${place:04_feature}`` is ``data/04_feature/<dataset>/<category>`` of this run, so that data sets and categories do
    not overwrite each other; ``${layer:04_feature}`` is ``data/04_feature/<dataset>``; ``${project:mlruns}`` is an
    absolute path inside the project. An ablation's categories find theirs in ``categories.<category>.dataset``.
    """

    #: The latest session's loader: Kedro gives the pipeline registry no parameters, and some pipelines follow them.
    latest: ClassVar["RunConfigLoader | None"] = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        RunConfigLoader.latest = self

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Load a configuration; wrong parameters end the run with one message."""
        project = Path(self.conf_source).resolve().parent
        OmegaConf.register_resolver("project", lambda path: (project / path).as_posix(), replace=True)
        if key == "catalog":
            dataset = _bind(super().__getitem__("parameters")).dataset
            name, category = dataset.name, dataset.category_name
            OmegaConf.register_resolver("place", lambda layer: f"data/{layer}/{name}/{category}", replace=True)
            OmegaConf.register_resolver("layer", lambda layer: f"data/{layer}/{name}", replace=True)
        loaded = super().__getitem__(key)
        if key == "parameters":
            _bind(loaded)
            datasets = {name: dataset for plan in _plans(loaded) for name, dataset in plan.datasets.items()}
            loaded["categories"] = {category: {"dataset": dataset} for category, dataset in datasets.items()}
        return loaded


def _bind(parameters: dict[str, Any]) -> RunParameters:
    try:
        return bind_parameters(parameters)
    except InputError as error:
        raise CommandLineError(str(error)) from error


def _plans(parameters: dict[str, Any]) -> list[Plan]:
    try:
        ablations = [plan_ablation(parameters, name) for name in ("mkd_ablation", "students_ablation")]
        return ablations + plan_tables(parameters)
    except InputError as error:
        raise CommandLineError(str(error)) from error
