"""One small detector, and files that it was exported to: each is made once a session, for all workers."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from exported_detectors import export, made_detector
from kdad.detectors.detector import Detector
from projects import once_a_session


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A trained detector with a threshold."""
    return made_detector(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give the folder that the detector was exported to, by runtime and precision."""

    @cache
    def folder(runtime: str = "onnxruntime", precision: str = "float32") -> Path:
        torch.set_num_threads(1)
        name = f"exported {runtime} {precision}"
        return once_a_session(tmp_path_factory, name, lambda made: export(detector, made, runtime, precision))

    return folder
