"""ONNX: one file, run by onnxruntime on the CPU."""

from pathlib import Path

import numpy as np
import torch

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
from kdad.detectors.exported.tracing import (
    batch_dimension,
    not_exported,
    pixel_dimensions,
    sample_pixels,
    sample_prepared,
    traced,
)

_EXTRA = "onnx"
_PROVIDERS = ["CPUExecutionProvider"]
#: Before the names of the part that prepares pixels.
_PIXELS = "pixels."


class OnnxKind(FileKind):
    """Files of ONNX."""

    extra = _EXTRA
    packages = ("onnx", "onnxruntime")
    packages_to_write = ("onnx", "onnxscript", "onnxruntime")

    def build(
        self, whole: ExportedModule, size: tuple[int, int], path: Path, precision: str, normal: np.ndarray | None
    ) -> None:
        """Write both parts as one model, joined at `prepared`."""
        onnx = require("onnx", _EXTRA)
        pixels = _exported(whole.pixels, sample_pixels(), pixel_dimensions(), [IMAGE], [PREPARED])
        outputs = [SCORE, MAP][: len(whole.graph_part(sample_prepared(size)))]
        graph = _exported(whole.graph_part, sample_prepared(size), batch_dimension(), [PREPARED], outputs)
        pixels = onnx.compose.add_prefix(pixels, _PIXELS, rename_inputs=False, rename_outputs=False)
        model = onnx.compose.merge_models(pixels, graph, [(PREPARED, PREPARED)])
        _tidy(model)
        joint = onnx.helper.make_tensor_value_info(PREPARED, onnx.TensorProto.FLOAT, ["batch", 3, *size])
        model.graph.value_info.append(joint)  # by which the second part is found again
        if precision == "int8":
            from kdad.detectors.exported.int8 import quantise

            model = quantise(model, normal, path)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())

    def write_metadata(self, path: Path, texts: dict[str, str], target: Path) -> None:
        """Write the metadata as the model's properties."""
        onnx = require("onnx", _EXTRA)
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        target.write_bytes(model.SerializeToString())

    def read_texts(self, path: Path) -> dict[str, str]:
        """Return the model's properties."""
        return dict(_session(_content(path), path).get_modelmeta().custom_metadata_map)

    def open(self, path: Path, precision: str) -> "OnnxRuntime":
        """Open the file."""
        return OnnxRuntime(path)


class OnnxRuntime(Runtime):
    """A session for pixels, and one for prepared images, each made when first needed."""

    def __init__(self, path: Path) -> None:
        self._path, self._content = path, _content(path)
        self._of_pixels = self._of_prepared = None

    def run_pixels(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the whole model."""
        if self._of_pixels is None:
            self._of_pixels = _session(self._content, self._path)
        return tuple(self._of_pixels.run(None, {IMAGE: image}))

    def run_prepared(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run what comes after `prepared`."""
        if self._of_prepared is None:
            onnx = require("onnx", _EXTRA)
            model = onnx.load_from_string(self._content)
            outputs = [output.name for output in model.graph.output]
            part = onnx.utils.Extractor(model).extract_model([PREPARED], outputs)
            self._of_prepared = _session(part.SerializeToString(), self._path)
        return tuple(self._of_prepared.run(None, {PREPARED: images}))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, "ONNX", error) from error


def _session(content: bytes, path: Path):
    runtime = require("onnxruntime", _EXTRA)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return runtime.InferenceSession(content, options, providers=_PROVIDERS)
    except Exception as error:  # onnxruntime has a dozen kinds, all of a file that is no model
        raise unreadable(path, "ONNX", error) from error


def _exported(module, sample, dimensions, inputs: list[str], outputs: list[str]):
    program = traced(module, sample, dimensions)
    try:
        found = torch.onnx.export(
            program, (), input_names=inputs, output_names=outputs, dynamo=True, optimize=True, verbose=False
        )
    except Exception as error:  # whatever operator ONNX does not have
        raise not_exported("torch.onnx", error) from error
    return found.model_proto


def _tidy(model) -> None:
    """Leave out what the exporter notes of each node, and name the dimensions that may vary."""
    del model.opset_import[1:]  # both parts have the same, and readers want it once
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
    del graph.value_info[:]  # shapes that the joined parts name differently; runtimes infer them
    names = {IMAGE: ("batch", "height", "width"), SCORE: ("batch",), MAP: ("batch",)}
    for part in (*graph.input, *graph.output):
        for dimension, name in zip(part.type.tensor_type.shape.dim, names[part.name], strict=False):
            dimension.dim_param = name
    graph.name = "kdad"


KIND = OnnxKind()
