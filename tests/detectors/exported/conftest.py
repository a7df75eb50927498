"""One small detector, and files that it was exported to: each is made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from exported_detectors import export, make_detector
from kdad.detectors.detector import Detector


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A trained detector with a threshold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = make_detector(tmp_path_factory.mktemp("exported_detector"))
    torch.set_num_threads(before)
    return made


@pytest.fixture(scope="session")
def exported(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give the folder that the detector was exported to, by runtime and precision."""

    @cache
    def folder(runtime: str = "onnxruntime", precision: str = "float32") -> Path:
        made = tmp_path_factory.mktemp(f"{runtime}_{precision}")
        torch.set_num_threads(1)
        export(detector, made, runtime, precision)
        return made

    return folder
