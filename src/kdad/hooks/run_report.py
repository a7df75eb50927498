"""How a run ends on the console."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from rich.console import Console

from kdad.hooks.current_run import CurrentRun
from kdad.reporting.metrics_table import console_table, places_text


class RunReportHook:
    """Ends a run with its table, and says where its results are."""

    def __init__(self, current: CurrentRun) -> None:
        self._current = current

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End with a short table, and say where the heat-map sheet and the run are."""
        console = Console()
        run = self._current.identity
        place = f"{run}; `make mlflow` opens the UI" if run else "not logged"
        for name in sorted(name for name in pipeline.all_outputs() if name.endswith(".metrics")):
            metrics, space = catalog.load(name), name.removesuffix("metrics")
            if "localisation" not in metrics:
                continue
            console.print(console_table(metrics))
            places = {"Heat maps": space + "heatmap_sheet", "Detector": space + "detector"}
            found = {title: _from_here(file_of(catalog.get(entry))) for title, entry in places.items()}
            console.print(places_text(found, place), soft_wrap=True, highlight=False)
        if "inference.metrics" in pipeline.all_outputs():
            found = {"Judgements": _from_here(file_of(catalog.get("inference.page")))}
            console.print(places_text(found, place), soft_wrap=True, highlight=False)


def file_of(dataset: Any) -> Path:
    """Return where a catalog entry lies."""
    return Path(str(dataset._filepath))


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
