"""A detector as an ONNX model: traced by torch, from an image's own pixels to score and map, with its metadata."""

import hashlib
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from kdad.detectors.exported.runtimes import CATEGORY_SCORES, IMAGE, MAP, PREPARED, SCORE, require, unreadable
from kdad.errors import InputError
from kdad.images.files.fitting import OUTSIDE, Fit, Preparation
from kdad.images.files.value_range import EIGHT_BITS


class Pixels(nn.Module):
    """Images `(B, H, W, 3)`, uint8 RGB of any size, to float32 `(B, 3, h, w)` in [0, 1] of one `size`.

    The same as `Preparation.placed` after `read_image`, to float32's last digits; where a region counts, of its size
    alone. Raises `InputError` for a detector of files of
    more than 8 bits.
    """

    def __init__(self, size: tuple[int, int], preparation: Preparation) -> None:
        super().__init__()
        values = preparation.values or EIGHT_BITS
        if values.kind != "8-bit":
            raise InputError(
                f"the detector was made of images of the kind '{values.kind}', and exported files take 8 bits; predict "
                "with the detector's own folder"
            )
        self.size, self.fit, self.low, self.range = size, preparation.fit, values.low, values.high - values.low
        self.clips = values.low > 0 or values.high < 255
        self.region = preparation.region

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared images."""
        batch, height, width, channels = image.shape
        down, across = resize_matrices(height, width, self.size, self.fit)
        values = image.float()
        if self.region is not None:
            counts = torch.from_numpy(self.region.mask)[None, :, :, None]
            values = torch.where(counts, values, self.low + OUTSIDE * self.range)
        if self.clips:
            values = self._scaled(values).clamp(0, 1)
        rows = down @ values.reshape(batch, height, width * channels)  # (B, h, W * 3)
        rows = rows.reshape(batch, self.size[0], width, channels).permute(0, 3, 1, 2)  # (B, 3, h, W)
        found = rows @ across.T
        # Where nothing is clipped, the few pixels that are left are scaled, and not the many of the image.
        return (found if self.clips else self._scaled(found)).clamp(0, 1)

    def _scaled(self, values: Tensor) -> Tensor:
        return (values - self.low) / self.range


# A bilinear, antialiased resize is two products with matrices that depend on the image's size alone. Runtimes have no
# such resize for sizes that are known when an image comes, but they all multiply matrices.
def resize_matrices(height: int, width: int, size: tuple[int, int], fit: Fit) -> tuple[Tensor, Tensor]:
    """Return matrices `(h, H)` and `(w, W)` that bring images of H x W pixels to `size` (h, w) as `fit_image` does."""
    # As numbers of the graph, and no constants of it: the last of 0 .. H - 1, and one.
    own = [torch.arange(side)[-1] + 1 for side in (height, width)]
    if fit == "resize":
        spans = [(0, side, 0, target) for side, target in zip(own, size, strict=True)]
    else:
        scales = [target / side.double() for side, target in zip(own, size, strict=True)]
        scale = torch.minimum(*scales) if fit == "letterbox" else torch.maximum(*scales)
        if fit == "letterbox":  # all is seen, in a part of the target
            shown = [_rounded(side * scale, target) for side, target in zip(own, size, strict=True)]
            spans = [(0, side, (target - part) // 2, part) for side, target, part in zip(own, size, shown, strict=True)]
        else:  # a part is seen, in the whole target
            seen = [_rounded(target * (1 / scale), side) for side, target in zip(own, size, strict=True)]
            spans = [((side - part) // 2, part, 0, target) for side, target, part in zip(own, size, seen, strict=True)]
    return tuple(
        _resize_matrix(torch.arange(side), torch.arange(target), *span)
        for side, target, span in zip((height, width), size, spans, strict=True)
    )


def _resize_matrix(own: Tensor, target: Tensor, start: Tensor, seen: Tensor, top: Tensor, shown: Tensor) -> Tensor:
    """Return weights `(target, own)`: `seen` pixels from `start` on become `shown` ones from `top` on.

    A triangle as wide as a target pixel, or an own one where that is wider; beyond what is shown its border goes on.
    """
    target = torch.minimum((target - top).clamp(min=0), torch.as_tensor(shown - 1))
    column = own - start
    # Distances times 2 * shown, which are whole numbers: exact, however large the image.
    distance = ((2 * column + 1)[None] * shown - (2 * target + 1)[:, None] * seen).abs()
    widest = torch.maximum(torch.as_tensor(seen), torch.as_tensor(shown))
    weights = (1 - distance.float() / (2 * widest).float()).clamp(min=0)
    weights = weights * ((column >= 0) & (column < seen))[None].float()
    return weights / weights.sum(1, keepdim=True)


def _rounded(side: Tensor, most: int | Tensor) -> Tensor:
    return torch.minimum(side.round().long().clamp(min=1), torch.as_tensor(most))


_EXTRA = "onnx"
#: Images that int8's ranges are taken of, at most; more change them little.
_MOST = 64


def build_model(pixels: Pixels, graph: nn.Module, normal: np.ndarray | None) -> Any:
    """Return both parts as one ONNX model, joined at `prepared`.

    With `normal`, prepared images `(N, 3, h, w)` by which ranges are set, convolutions compute in int8. Raises
    `InputError` for networks that cannot be traced or written, and for a missing package.
    """
    onnx = require("onnx", _EXTRA)
    require("onnxscript", _EXTRA)
    generator = torch.Generator().manual_seed(0)
    # Sizes that nothing else has, so that none is taken for a constant.
    sides = (57, 91) if pixels.region is None else (pixels.region.height, pixels.region.width)
    image = torch.randint(0, 256, (2, *sides, 3), dtype=torch.uint8, generator=generator)
    prepared = torch.rand((2, 3, *pixels.size), generator=generator.manual_seed(0))
    batch, height, width = (Dim(name, min=1) for name in ("batch", "height", "width"))
    free = {0: batch} | ({1: height, 2: width} if pixels.region is None else {})
    first = _traced(pixels, image, free, [IMAGE], [PREPARED])
    with torch.no_grad():
        outputs = [SCORE, MAP, CATEGORY_SCORES][: len(graph(prepared))]
    second = _traced(graph, prepared, {0: batch}, [PREPARED], outputs)
    first = onnx.compose.add_prefix(first, "pixels.", rename_inputs=False, rename_outputs=False)
    model = onnx.compose.merge_models(first, second, [(PREPARED, PREPARED)])
    _tidy(model)
    joint = onnx.helper.make_tensor_value_info(PREPARED, onnx.TensorProto.FLOAT, ["batch", 3, *pixels.size])
    model.graph.value_info.append(joint)  # by which the second part is found again
    if normal is not None:
        model = _quantised(model, normal)
    onnx.checker.check_model(model)
    return model


def write_model(model: Any, texts: dict[str, str], path: Path) -> None:
    """Write a model with these texts as its metadata, in the place of others."""
    del model.metadata_props[:]
    require("onnx", _EXTRA).helper.set_model_props(model, texts)
    path.write_bytes(model.SerializeToString())


def digest_of_graph(model: Any) -> str:
    """Return the SHA-256 of a model's nodes and weights, without its metadata."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def read_model(path: Path) -> tuple[Any, str]:
    """Return the model of a file and the file's SHA-256; raises `InputError` for one that is no ONNX, or is cut short.

    The file is read once: what happens to it later changes nothing of the model.
    """
    onnx = require("onnx", _EXTRA)
    try:
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
    except Exception as error:  # of the disk, or whatever protobuf meets in a foreign file
        raise unreadable(path, error) from error
    if not model.graph.node:
        raise unreadable(path, "it is empty")
    return model, hashlib.sha256(content).hexdigest()


def _traced(module: nn.Module, sample: Tensor, dimensions: dict[int, Dim], inputs: list[str], outputs: list[str]):
    """Return what a module computes of a `sample`, for every size of the named `dimensions`."""
    by = "torch.export"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer's own deprecated calls
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.export.export(module.eval(), (sample,), dynamic_shapes=(dimensions,), strict=False)
            by = "torch.onnx"
            return torch.onnx.export(
                program, (), input_names=inputs, output_names=outputs, dynamo=True, optimize=True, verbose=False
            ).model_proto
        except InputError:
            raise
        except Exception as error:  # torch has a dozen kinds of networks that it cannot trace, and ONNX lacks operators
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(
                f"{by} cannot write this detector's networks ({reason[:200]}); take another source"
            ) from error


def _tidy(model: Any) -> None:
    """Leave out what the exporter notes of each node, and name the dimensions that may vary."""
    del model.opset_import[1:]  # both parts have the same, and readers want it once
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
    del graph.value_info[:]  # shapes that the joined parts name differently; runtimes infer them
    names = {IMAGE: ("batch", "height", "width"), SCORE: ("batch",), MAP: ("batch",), CATEGORY_SCORES: ("batch",)}
    for part in (*graph.input, *graph.output):
        for dimension, name in zip(part.type.tensor_type.shape.dim, names[part.name], strict=False):
            if not dimension.dim_value:  # those of a region are fixed
                dimension.dim_param = name
    graph.name = "kdad"


def _quantised(model: Any, normal: np.ndarray) -> Any:
    """Return a model whose convolutions compute in int8, between nodes that quantise and restore.

    All else stays in float32: maps are differences of activations, of which 8 bits would leave little.
    """
    onnx, quantization = require("onnx", _EXTRA), require("onnxruntime.quantization", _EXTRA)
    rows = np.linspace(0, len(normal) - 1, min(len(normal), _MOST)).astype(int)
    # Pixels at the size of the detector, where preparing changes nothing but the type.
    pixels = iter(np.rint(255 * normal[rows]).astype(np.uint8).transpose(0, 2, 3, 1))

    class Normal(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(pixels, None)
            return None if image is None else {IMAGE: image[None]}

    def is_no_advice(record: logging.LogRecord) -> bool:  # that the model is not prepared: torch's exporter has done so
        return "pre-processing" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(is_no_advice)
    try:
        with tempfile.TemporaryDirectory(prefix="kdad-int8-") as folder:
            before, after = (str(Path(folder, name)) for name in ("float32.onnx", "int8.onnx"))
            onnx.save(model, before)
            quantization.quantize_static(
                before,
                after,
                Normal(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
            return onnx.load(after)
    finally:
        root.removeFilter(is_no_advice)
