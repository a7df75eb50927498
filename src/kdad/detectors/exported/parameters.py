"""The ``export:`` block: a kept detector as one file of another runtime."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel

FileFormat = Literal["onnx", "torch_export", "openvino"]
ExportPrecision = Literal["float32", "bfloat16", "int8"]

#: What each format's runtime computes in on a CPU.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("float32", "int8"),
    "torch_export": ("float32",),
    "openvino": ("float32", "bfloat16", "int8"),
}


class ExportParameters(StrictModel):
    """The ``export:`` block."""

    detector: str = Field("latest", description="a folder, latest, or MLflow's runs:/ID or models:/NAME@ALIAS")
    format: FileFormat = Field("onnx", description="onnx, torch_export (a .pt2 file) or openvino (.xml and .bin)")
    precision: ExportPrecision = Field(
        "float32", description="bfloat16 (openvino) and int8 (onnx, openvino) are measured, and lose something"
    )
    output: str | None = Field(
        None, description="folder of the results; null: data/06_models/exported/<detector>/<format>_<precision>"
    )
    images: str | None = Field(
        None, description="folder of normal images, or of labelled ones, to check on; null: those of the detector's run"
    )
    most_images: int = Field(200, ge=1, description="of validation and of test images each, evenly spaced")

    @model_validator(mode="after")
    def _runtime_has_the_precision(self) -> "ExportParameters":
        if self.precision not in PRECISIONS[self.format]:
            able = [name for name, known in PRECISIONS.items() if self.precision in known]
            raise ValueError(
                f"format '{self.format}' has no precision '{self.precision}' on a CPU, it has "
                f"{' and '.join(PRECISIONS[self.format])}; '{self.precision}' takes format {' or '.join(able)}"
            )
        return self
