"""Configuration of a run: parameters bound before anything starts, and where a data set's outputs lie."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.cli.utils import KedroCliError
from omegaconf import OmegaConf

from kdad.errors import InputError
from kdad.parameters.run import bind_parameters


class RunConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with two resolvers and parameters checked against their models.

    ``${place:04_feature}`` is ``data/04_feature/<dataset>/<category>`` of this run, so that data sets and categories do
    not overwrite each other; ``${project:mlruns}`` is an absolute path inside the project.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Load a configuration; wrong parameters end the run with one message."""
        project = Path(self.conf_source).resolve().parent
        OmegaConf.register_resolver("project", lambda path: (project / path).as_posix(), replace=True)
        if key == "catalog":
            place = self._place()
            OmegaConf.register_resolver("place", lambda layer: f"data/{layer}/{place}", replace=True)
        loaded = super().__getitem__(key)
        if key == "parameters":
            self._bind(loaded)
        return loaded

    def _place(self) -> str:
        dataset = self._bind(self["parameters"]).dataset
        return f"{dataset.name}/{dataset.category_name}"

    @staticmethod
    def _bind(parameters: dict[str, Any]):
        try:
            return bind_parameters(parameters)
        except InputError as error:
            raise KedroCliError(str(error)) from error
