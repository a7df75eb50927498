"""What runs an exported file on the CPU: onnxruntime or OpenVINO, of the same ONNX."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from kdad.errors import InputError
from kdad.parameters.blocks import ExportPrecision, RuntimeName

logger = logging.getLogger(__name__)

#: What the inputs and outputs of every file are called, and what joins its two parts.
IMAGE, PREPARED, SCORE, MAP, CATEGORY_SCORES = "image", "prepared", "score", "map", "category_scores"

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Runtime(ABC):
    """An exported model that runs, from pixels or from prepared images; each part is opened when first needed.

    `model` is an ONNX model. Raises `InputError` when a package is missing, or the model cannot be run.
    """

    package: ClassVar[RuntimeName]
    extra: ClassVar[str]

    def __init__(self, model: Any, path: Path, precision: ExportPrecision) -> None:
        require(self.package, self.extra)
        self.model, self._path, self._precision = model, path, precision
        self._parts: dict[tuple[int, str], Run] = {}  # by process: threads do not survive a fork

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return scores `(B,)`, and maps `(B, h, w)` where there are some, of uint8 RGB `(B, H, W, 3)` of any size.

        Of a detector with moments of each category, its scores by each of them come last, `(B, categories)`.
        """
        return self._part(IMAGE)(image)

    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the same of float32 images `(B, 3, h, w)` in [0, 1], prepared as the detector's are."""
        return self._part(PREPARED)(images)

    def _part(self, start: str) -> Run:
        key = (os.getpid(), start)
        if key not in self._parts:
            outputs = [output.name for output in self.model.graph.output]
            try:
                model = self.model
                if start == PREPARED:
                    model = require("onnx", "onnx").utils.Extractor(model).extract_model([PREPARED], outputs)
                self._parts[key] = self._open(model.SerializeToString(), start, outputs)
            except InputError:
                raise
            except Exception as error:  # runtimes have a dozen kinds, all of a file that is no model
                raise unreadable(self._path, error) from error
        return self._parts[key]

    @abstractmethod
    def _open(self, content: bytes, start: str, outputs: list[str]) -> Run:
        """Return what runs a serialised model from the input `start`."""


class OnnxRuntime(Runtime):
    """A model run by onnxruntime."""

    package, extra = "onnxruntime", "onnx"

    def _open(self, content: bytes, start: str, outputs: list[str]) -> Run:
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; they are raised as well
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda array: tuple(session.run(outputs, {start: array}))


class OpenVinoRuntime(Runtime):
    """A model run by OpenVINO; one for bfloat16 is in float32, and computed in bfloat16."""

    package, extra = "openvino", "openvino"
    _process: ClassVar[int | None] = None  # that runs it

    def _open(self, content: bytes, start: str, outputs: list[str]) -> Run:
        if OpenVinoRuntime._process not in (None, os.getpid()):
            raise InputError(
                "the process was forked from one that predicts by OpenVINO, whose threads do not survive that; begin "
                "it with multiprocessing.get_context('spawn')"
            )
        OpenVinoRuntime._process = os.getpid()
        core = import_module("openvino").Core()
        in_bfloat16 = self._precision == "bfloat16"
        if in_bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            logger.warning("'%s' was made for bfloat16, which this machine lacks: it runs in float32", self._path)
            in_bfloat16 = False
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()

        def run(array: np.ndarray) -> tuple[np.ndarray, ...]:
            request.infer({start: array}, share_inputs=True)
            return tuple(request.get_tensor(output).data.copy() for output in outputs)

        return run


RUNTIMES: dict[RuntimeName, type[Runtime]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVinoRuntime}


def choose_runtime(wanted: RuntimeName, precision: ExportPrecision) -> type[Runtime]:
    """Return the runtime that is wanted, or for float32 the other one where that alone is installed: they agree."""
    for name in (wanted, *RUNTIMES) if precision == "float32" else ():
        try:
            import_module(name)
        except ImportError:
            continue
        return RUNTIMES[name]
    return RUNTIMES[wanted]


def require(package: str, extra: str) -> Any:
    """Import a package that an extra brings; raises `InputError` that says how to get it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"the package '{package}' is not installed ({error}); run `pip install \"kdad[{extra}]\"`"
        ) from error


def unreadable(path: Path, error: Exception | str) -> InputError:
    """Return the error of a file that cannot be read as a model."""
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"'{path}' cannot be read as ONNX ({reason}); it is cut short, or of another kind: take an undamaged copy, "
        "or export the detector again"
    )
