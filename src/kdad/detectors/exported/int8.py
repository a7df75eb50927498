"""Convolutions in integers of 8 bits, by the ranges that normal validation images make their values take."""

import logging
from pathlib import Path

import numpy as np

from kdad.detectors.exported.runtime import IMAGE, require

#: Images that ranges are taken of, at most; more change them little.
_MOST = 64


def quantise(model, normal: np.ndarray, path: Path):
    """Return an ONNX model whose convolutions compute in int8, between nodes that quantise and restore.

    `normal` are prepared images `(N, 3, h, w)`. Weights have a scale a channel. Files of work lie beside `path`. All
    else stays in float32: maps are differences of activations, of which 8 bits would leave little.
    """
    require("onnxruntime", "onnx")
    onnx = require("onnx", "onnx")
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Normal(CalibrationDataReader):
        """Normal images one by one, at the size of the detector, where preparing changes nothing but the type."""

        def __init__(self) -> None:
            rows = np.linspace(0, len(normal) - 1, min(len(normal), _MOST)).astype(int)
            self._left = iter(np.rint(255 * normal[rows]).astype(np.uint8).transpose(0, 2, 3, 1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self._left, None)
            return None if found is None else {IMAGE: found[None]}

    root = logging.getLogger()
    before, after = path.with_suffix(".float32.onnx"), path.with_suffix(".int8.onnx")
    onnx.save(model, before)
    root.addFilter(_is_no_advice)
    try:
        quantize_static(
            str(before),
            str(after),
            Normal(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(after)
    finally:
        root.removeFilter(_is_no_advice)
        before.unlink(missing_ok=True)
        after.unlink(missing_ok=True)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Leave out that the library has not prepared the model itself: torch's exporter has."""
    return "pre-processing" not in record.getMessage()
