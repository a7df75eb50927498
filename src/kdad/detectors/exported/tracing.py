"""A module as torch's exported program, for sizes that vary."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdad.errors import InputError


def traced(module: nn.Module, sample: Tensor, dimensions: Mapping[int, Any]) -> ExportedProgram:
    """Return what a module computes of a `sample`, for every size of the named `dimensions`.

    Raises `InputError` for one that torch cannot trace so.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer's own deprecated calls
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            return torch.export.export(module.eval(), (sample,), dynamic_shapes=(dict(dimensions),), strict=False)
        except InputError:
            raise
        except Exception as error:  # torch has a dozen kinds of networks that it cannot trace
            raise not_exported("torch.export", error) from error


def not_exported(by: str, error: Exception) -> InputError:
    """Return the error of a network that an exporter cannot write."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError(f"{by} cannot write this detector's networks ({reason[:200]}); take another source")


def pixel_dimensions() -> dict[int, Any]:
    """Return the dimensions of images `(B, H, W, 3)` that vary."""
    return {0: Dim("batch", min=1), 1: Dim("height", min=1), 2: Dim("width", min=1)}


def batch_dimension() -> dict[int, Any]:
    """Return that of prepared images."""
    return {0: Dim("batch", min=1)}


def sample_pixels() -> Tensor:
    """Return images `(2, 57, 91, 3)`: sizes that nothing else has, so that none is taken for a constant."""
    return torch.randint(0, 256, (2, 57, 91, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def sample_prepared(size: tuple[int, int]) -> Tensor:
    """Return images `(2, 3, H, W)` of a size (H, W)."""
    return torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
