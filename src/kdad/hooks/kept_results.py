"""Nothing good is replaced in silence: what a run replaces is kept, and the console says which is which."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from rich.console import Console

from kdad.datasets.place import file_of
from kdad.detectors.registry import SYSTEMS
from kdad.metrics.names import METRICS
from kdad.project.kept_results import Result, better_than, drop_if_remade, drop_if_untouched, keep_results
from kdad.project.places import path_from_here

_AUROC = METRICS["image_auroc"]


class KeptResultsHook:
    """Keeps the detector and the reports that a system's run replaces, unless it makes the same ones again."""

    def __init__(self) -> None:
        self._kept: list[tuple[Path, Path, Path]] = []  # where it is kept, the detector's folder, the reports'

    @hook_impl
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Copy what is there; the place is locked, and a run that fails leaves it as it is."""
        self._kept = []
        for detector, reports in _results_of(pipeline, catalog):
            kept = keep_results(detector, reports)
            if kept is not None:
                self._kept.append((kept, detector, reports))

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Say what was replaced, where it is kept, and which earlier result is better than the latest."""
        kept_for = {detector: kept for kept, detector, _ in self._kept if not drop_if_remade(kept, detector)}
        self._kept = []
        for detector, _ in _results_of(pipeline, catalog):
            for line in _lines(detector, kept_for.get(detector)):
                Console().print(line, soft_wrap=True, highlight=False)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Drop the copies of what was not replaced."""
        for kept, detector, reports in self._kept:
            drop_if_untouched(kept, detector, reports)
        self._kept = []


def _results_of(pipeline: Any, catalog: Any) -> list[tuple[Path, Path]]:
    """Return the folders of the detectors that a pipeline makes, and of their reports."""
    made = pipeline.all_outputs()
    systems = [name for name in SYSTEMS if f"{name}.detector" in made and f"{name}.metrics" in made]
    return [
        (file_of(catalog.get(f"{name}.detector")), file_of(catalog.get(f"{name}.metrics")).parent) for name in systems
    ]


def _lines(detector: Path, kept: Path | None) -> list[str]:
    better = better_than(detector)
    if kept is None and better is None:
        return []
    lines = [f"Latest: {_figure(Result.read(detector))}, in {path_from_here(detector)}"]
    if kept is not None and (better is None or better.detector.parent != kept):
        replaced = Result.read(kept / "detector")
        lines.append(f"Replaced: {_figure(replaced)}, kept in {path_from_here(kept)}")
    if better is not None:
        place = path_from_here(better.detector.parent)
        lines.append(f"Better on the same test images: {_figure(better)}, kept from before in {place}")
    return lines


def _figure(result: Result) -> str:
    return f"{_AUROC.label} {_AUROC.text(result.image_auroc)}"
