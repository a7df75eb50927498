"""Every system as one noun, the detector: what it is, and how one that was kept is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdad.detectors.predictor import Predictor


def load(place: str | Path, device: str = "auto", threads: int | None = None) -> "Predictor":
    """Load the detector that a folder or an exported file holds, ready to predict: ``load(place).predict(image)``.

    It runs in the number format that it was made in, where this machine has it; an exported file runs on the CPU.
    `threads` is how many torch uses in this process; None leaves that, but for those beyond a container's quota.
    Raises `InputError` when it is incomplete, of another version, or was changed by hand.
    """
    from kdad.detectors.opening import open_predictor

    return open_predictor(Path(place).expanduser(), device, threads)
