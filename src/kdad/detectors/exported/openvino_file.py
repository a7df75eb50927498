"""OpenVINO: a graph in XML with its weights beside it, run on the CPU."""

import logging
from pathlib import Path

import numpy as np
import torch

from kdad.detectors.exported.facts import KEY, read_texts
from kdad.detectors.exported.onnx_file import KIND as ONNX
from kdad.detectors.exported.runtime import (
    IMAGE,
    MAP,
    PREPARED,
    SCORE,
    ExportedModule,
    FileKind,
    Runtime,
    require,
    unreadable,
)
from kdad.errors import InputError
from kdad.storage.content_store import sha256_of

logger = logging.getLogger(__name__)
_EXTRA = "openvino"


class OpenVinoKind(FileKind):
    """Files of OpenVINO, made from ONNX."""

    extra = "onnx,openvino"
    packages = ("openvino",)
    packages_to_write = ("openvino", *ONNX.packages_to_write)

    def build(
        self, whole: ExportedModule, size: tuple[int, int], path: Path, precision: str, normal: np.ndarray | None
    ) -> None:
        """Convert what ONNX's kind builds."""
        openvino = require("openvino", _EXTRA)
        before = path.with_suffix(".onnx")
        ONNX.build(whole, size, before, precision, normal)
        # In float32 whatever the precision: which one is computed in, the runtime is told.
        openvino.save_model(openvino.convert_model(before), path, compress_to_fp16=False)
        before.unlink()

    def write_metadata(self, path: Path, texts: dict[str, str], target: Path) -> None:
        """Write the metadata as the model's runtime information, with the hash of its weights."""
        openvino = require("openvino", _EXTRA)
        model = openvino.Core().read_model(path)
        # The weights alone: which the metadata does not change.
        facts = read_texts(texts, str(path)).model_copy(update={"weights_sha256": sha256_of(path.with_suffix(".bin"))})
        for name, text in facts.texts().items():
            model.set_rt_info(text, [KEY, name.removeprefix(f"{KEY}.")])
        openvino.save_model(model, target, compress_to_fp16=False)

    def read_texts(self, path: Path) -> dict[str, str]:
        """Return the model's runtime information; raises `InputError` for weights that are not the graph's too."""
        model = _read(path)
        if not model.has_rt_info([KEY, KEY]):
            return {}
        texts = {KEY: model.get_rt_info([KEY, KEY]).astype(str)}
        wanted = read_texts(texts, str(path)).weights_sha256
        weights = path.with_suffix(".bin")
        if wanted is None or sha256_of(weights) != wanted:
            raise InputError(
                f"'{weights}' is not the file that '{path.name}' was written with: its hash differs; take copies of "
                "both, or export the detector again"
            )
        return texts

    def open(self, path: Path, precision: str) -> "OpenVinoRuntime":
        """Open both files."""
        return OpenVinoRuntime(path, precision)


class OpenVinoRuntime(Runtime):
    """A compiled model for pixels, and one for prepared images, each made when first needed."""

    def __init__(self, path: Path, precision: str) -> None:
        openvino = require("openvino", _EXTRA)
        self._path, self._core = path, openvino.Core()
        self._of_pixels = self._of_prepared = None
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            logger.warning("'%s' was made for bfloat16, which this machine lacks: it runs in float32", path)
            precision = "float32"
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the whole model."""
        if self._of_pixels is None:
            self._of_pixels = self._compiled(_read(self._path))
        return _run(self._of_pixels, IMAGE, image)

    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run what comes after `prepared`."""
        if self._of_prepared is None:
            self._of_prepared = self._compiled(self._after_pixels())
        return _run(self._of_prepared, PREPARED, images)

    def _after_pixels(self):
        openvino, model = require("openvino", _EXTRA), _read(self._path)
        joint = next(
            output for node in model.get_ordered_ops() for output in node.outputs() if PREPARED in output.get_names()
        )
        given = openvino.opset13.parameter(joint.get_partial_shape(), joint.get_element_type(), PREPARED)
        given.output(0).set_names({PREPARED})
        for user in list(joint.get_target_inputs()):
            user.replace_source_output(given.output(0))
        return openvino.Model(model.get_results(), [given], "kdad")

    def _compiled(self, model):
        try:
            return self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        except Exception as error:  # a RuntimeError of whatever the plugin meets
            raise unreadable(self._path, "OpenVINO's", error) from error


def _run(request, name: str, array: np.ndarray) -> tuple[np.ndarray, ...]:
    request.infer({name: array}, share_inputs=True)
    outputs = [SCORE, MAP][: len(request.model_outputs)]
    return tuple(request.get_tensor(output).data.copy() for output in outputs)


def _read(path: Path):
    openvino = require("openvino", _EXTRA)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"'{path}' lacks its weights: there is no '{weights.name}' beside it; copy both files")
    try:
        return openvino.Core().read_model(path)
    except Exception as error:  # a RuntimeError of whatever the reader meets
        raise unreadable(path, "OpenVINO's", error) from error


KIND = OpenVinoKind()
