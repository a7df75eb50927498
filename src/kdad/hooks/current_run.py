"""The run that the hooks of this process record to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdad.tracking.destination import Destination
from kdad.tracking.parameters import TrackingParameters
from kdad.tracking.run import TrackedRun, run_of_parent
from kdad.tracking.uploader import Uploader


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
