"""Every system as one noun, the detector: what it is, and how one that was kept is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdad.detectors.detector import Detector


def load(folder: str | Path, device: str = "auto") -> "Detector":
    """Load the detector that `folder` holds, ready to judge: ``load(folder).judge(image)``.

    It runs in the number format that it was made in, where this machine has it. Raises `InputError` when the folder is
    incomplete, of another version, or was changed by hand.
    """
    from kdad.detectors.opening import open_detector

    return open_detector(Path(folder).expanduser(), device)
