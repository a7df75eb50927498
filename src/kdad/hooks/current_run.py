"""The run that the hooks of this process record to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdad.tracking.destination import Destination
from kdad.tracking.parameters import TrackingParameters
from kdad.tracking.run import TrackedRun, run_of_parent
from kdad.tracking.sender import Sender


@dataclass
class CurrentRun:
    """What the hooks share: the run, who sends it, and what the session said of it."""

    run: TrackedRun | None = None
    sender: Sender | None = None
    destination: Destination | None = None
    settings: TrackingParameters = field(default_factory=TrackingParameters)
    parameters: dict[str, Any] = field(default_factory=dict)
    project: Path = Path()

    @property
    def tracked(self) -> TrackedRun | None:
        """The run to record to, in a worker process that of its parent; None when nothing is logged."""
        return self.run if self.run is not None else run_of_parent()

    @property
    def identity(self) -> str | None:
        """MLflow's ID of the run, or its own key as long as MLflow has given none."""
        tracked = self.tracked
        if tracked is None:
            return None
        return tracked.identity(self.settings.patience if self._answers else 0.0)

    @property
    def _answers(self) -> bool:
        return self.sender is None or self.sender.trouble is None
