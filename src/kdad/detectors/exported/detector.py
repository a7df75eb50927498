"""A detector that was exported, predicting through the runtime of its file; where such files lie."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from kdad.detectors.exported.facts import ExportedFacts, read_texts
from kdad.detectors.exported.onnx_file import digest_of_graph, read_model, write_model
from kdad.detectors.exported.runtimes import RUNTIMES, Runtime, choose_runtime
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.parameters.blocks import RuntimeName
from kdad.storage.replacing import is_taken, replacing

#: What an export's file is called.
FILE = "detector.onnx"


class ExportedDetector(Predictor):
    """A predictor whose numbers come from an exported file; nothing of it can be trained or exported again."""

    def __init__(self, facts: ExportedFacts, runtime: Runtime, file: Path) -> None:
        super().__init__()
        self.facts, self.runtime, self.file = facts, runtime, file
        self.system, self.key = facts.system, facts.key
        self.size, self.preparation = facts.image.size, facts.image.preparation
        if facts.threshold is not None:
            self.calibrated(facts.threshold, np.array(facts.validation_scores), facts.colour_limits)
        self.by_category, self.record = facts.by_category, facts.made_by
        self.pixel_threshold = facts.pixel_threshold
        self._column: int | None = None  # of the category whose scores it gives

    @property
    def methods(self) -> list[str]:
        """The one map that the file gives, if it gives one."""
        return [] if self.facts.map is None else [self.facts.map]

    def score_and_show(self, images: Tensor, outputs: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return scores and maps of prepared images; a file takes no outputs of frozen networks."""
        scores, *maps = self.runtime.run_prepared(np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32))
        return scores if self._column is None else maps[-1][:, self._column], maps[0] if maps else None

    def for_category(self, category: str) -> Self:
        """Return the same with the threshold of a category, and scores by its moments where the file has some.

        Raises `InputError` for a category that it has not.
        """
        own = super().for_category(category)
        own._column = self.facts.categories.index(category) if category in self.facts.categories else None
        return own

    def save(self, folder: str | Path) -> Path:
        """Write the file with the threshold that it has now to a folder, which then holds it alone."""
        changed = {
            "threshold": self.threshold,
            "validation_scores": self.validation_scores.tolist(),
            "colour_limits": self.colour_limits,
            "pixel_threshold": self.pixel_threshold,
            "made_by": self.record,
        }
        if self.threshold != self.facts.threshold:
            changed["threshold_set_by"] = "runtime"
        return write_exported(self.facts.model_copy(update=changed), self.runtime.model, Path(folder).expanduser())


def open_exported(path: Path, runtime: RuntimeName | None = None) -> ExportedDetector:
    """Open an exported file to predict by it, through the runtime that it names where no other is asked for.

    Raises `InputError` for another kind of file, a package that is missing, a file that is cut short, one that another
    program has written, and one of another format of metadata.
    """
    if path.suffix.lower() != ".onnx":
        raise InputError(
            f"'{path}' is no detector: it does not end in .onnx; give a detector's folder or an exported file, and "
            "export again what an earlier version has written as .xml or .pt2"
        )
    model, digest = read_model(path)
    facts = read_texts({one.key: one.value for one in model.metadata_props}, str(path))
    if facts.sha256 not in ("", digest_of_graph(model)):
        raise InputError(
            f"'{path}' is not as it was written: the SHA-256 of its graph is another; take an undamaged copy, or "
            "export the detector again"
        )
    kind = choose_runtime(facts.runtime, facts.precision) if runtime is None else RUNTIMES[runtime]
    detector = ExportedDetector(facts, kind(model, path, facts.precision), path)
    detector.digest = digest
    return detector


def exported_file(place: Path) -> Path | None:
    """Return the exported file that a place is, or that a folder holds; None for any other."""
    file = place if place.is_file() else place / FILE
    return file if file.is_file() else None


def write_exported(facts: ExportedFacts, model: Any, folder: Path) -> Path:
    """Write an ONNX model with its facts as the one file of `folder`, in the place of an older export; all or nothing.

    Raises `InputError` when the folder holds anything else.
    """
    if is_taken(folder, FILE):
        raise InputError(f"'{folder}' is there already and is no exported detector; give a new folder, or remove it")
    with replacing(folder) as partial:
        facts = facts.model_copy(update={"sha256": digest_of_graph(model)})
        write_model(model, facts.texts(), partial / FILE)
    return folder
