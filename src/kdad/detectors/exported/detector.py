"""A detector that was exported, judging through the runtime of its file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from kdad.detectors.exported.facts import ExportedFacts
from kdad.detectors.exported.folder import keep
from kdad.detectors.exported.runtime import Runtime, kind_of
from kdad.detectors.predictor import Predictor


class ExportedDetector(Predictor):
    """A judge whose numbers come from an exported file; nothing of it can be trained or exported again."""

    def __init__(self, facts: ExportedFacts, runtime: Runtime, file: Path) -> None:
        super().__init__()
        self.facts, self.runtime, self.file = facts, runtime, file
        self.system, self.key = facts.system, facts.key
        self.size, self.preparation = facts.image.size, facts.image.preparation
        if facts.threshold is not None:
            self.calibrated(facts.threshold, np.array(facts.validation_scores), facts.colour_limits)
        self.record = facts.made_by

    @property
    def methods(self) -> list[str]:
        """The one map that the file gives, if it gives one."""
        return [] if self.facts.map is None else [self.facts.map]

    def score_and_show(self, images: Tensor, outputs: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return scores and maps of prepared images; a file takes no outputs of frozen networks."""
        return _found(self.runtime.run_prepared(np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32)))

    def score_pixels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return scores `(B,)` and maps `(B, h, w)` of uint8 RGB `(B, H, W, 3)` of any size: all by the file itself."""
        return _found(self.runtime.run_pixels(np.ascontiguousarray(image)))

    def save(self, folder: str | Path) -> Path:
        """Write the file with the threshold that it has now to a folder, which then holds it alone."""
        threshold, limits = self.threshold, self.colour_limits
        changed = {
            "threshold": threshold,
            "validation_scores": self.validation_scores.tolist(),
            "colour_limits": limits,
        }
        if threshold != self.facts.threshold:
            changed["threshold_set_by"] = "runtime"
        facts = self.facts.model_copy(update=changed | {"made_by": self.record})
        with TemporaryDirectory(prefix="kdad-export-") as built:
            kind_of(facts.file_format).write_metadata(self.file, facts.texts(), Path(built) / self.file.name)
            return keep(Path(built), Path(folder).expanduser())


def _found(outputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    return outputs[0], outputs[1] if len(outputs) > 1 else None
