"""How a run ends on the console."""

from typing import Any

from kedro.framework.hooks import hook_impl
from rich.console import Console

from kdad.datasets.place import file_of
from kdad.errors import IncompleteError
from kdad.hooks.errors import known_error_of
from kdad.hooks.run_results import compared_axes, tables_of
from kdad.hooks.run_tracking import CurrentRun
from kdad.project.places import path_from_here
from kdad.reporting.console import places_text
from kdad.tracking.destination import axis_link, place_of_ui, run_link

#: Files that people are told of, by the last part of their data sets' names.
_PLACES = {
    "training_report": "Report",
    "page": "Page",
    "data_report": "Data report",
    "heatmap_sheet": "Heat maps",
    "contact_sheet": "Contact sheet",
    "detector": "Detector",
}


class RunReportHook:
    """Ends a run with its table, and says where its results are and where MLflow shows it."""

    def __init__(self, current: CurrentRun) -> None:
        self._current = current

    @hook_impl(tryfirst=True)
    def after_pipeline_run(
        self, run_params: dict[str, Any], run_result: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """End with the table of what was made; when nothing was to be done, with that."""
        if run_params.get("only_missing_outputs") and not run_result:
            Console().print("Nothing to do: every output is there already.")
        else:
            self._report(pipeline, catalog)

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception, pipeline: Any, catalog: Any) -> None:
        """Show what was made when a part of it is missing; the message says which."""
        if isinstance(known_error_of(error), IncompleteError):
            self._report(pipeline, catalog)

    def _report(self, pipeline: Any, catalog: Any) -> None:
        console = Console()
        for table in tables_of(pipeline, catalog):
            console.print(table)
        places = {}
        for name in sorted(name for name in pipeline.all_outputs() if catalog.exists(name)):
            space, _, kind = name.rpartition(".")
            if kind in _PLACES:
                title = _PLACES[kind]
                places[title if title not in places else f"{title}, {space}"] = path_from_here(
                    file_of(catalog.get(name))
                )
        console.print(
            places_text(places | self._links(compared_axes(pipeline, catalog))), soft_wrap=True, highlight=False
        )

    def _links(self, axes: list[str]) -> dict[str, str]:
        """Return where MLflow shows the run, and where it compares the cases of each axis."""
        tracked, destination = self._current.tracked, self._current.destination
        if tracked is None or destination is None:
            return {"MLflow": "not logged"}
        run = self._current.identity  # waits until MLflow has given one
        experiment = tracked.experiment
        if experiment is None or run is None:
            return {"MLflow": f"run {run} is sent when it answers"}
        place = place_of_ui(destination, self._current.ui)
        opened = "  (`make mlflow` opens it)" if destination.is_local else ""
        compared = {f"Compare {axis}": axis_link(place, experiment, run, axis) for axis in axes}
        return compared | {"MLflow run": run_link(place, experiment, run) + opened}
