"""The ``export:`` block: a kept detector as one ONNX file."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel

RuntimeName = Literal["onnxruntime", "openvino"]
ExportPrecision = Literal["float32", "bfloat16", "int8"]


class ExportParameters(StrictModel):
    """The ``export:`` block."""

    detector: str = Field("latest", description="a folder, latest, or MLflow's runs:/ID or models:/NAME@ALIAS")
    runtime: RuntimeName = Field(
        "onnxruntime", description="what the file is checked with, and predicts by where it is installed"
    )
    precision: ExportPrecision = Field(
        "float32", description="bfloat16 (openvino alone) and int8 are measured, and lose something"
    )
    output: str | None = Field(
        None, description="folder of the results; null: data/06_models/exported/<detector>/onnx_<precision>"
    )
    images: str | None = Field(
        None, description="folder of normal images, or of labelled ones, to check on; null: those of the detector's run"
    )
    most_images: int = Field(200, ge=1, description="of validation and of test images each, evenly spaced")

    @model_validator(mode="after")
    def _runtime_has_the_precision(self) -> "ExportParameters":
        if self.precision == "bfloat16" and self.runtime != "openvino":
            raise ValueError(f"{self.runtime} does not compute in bfloat16 on a CPU; give export.runtime=openvino")
        return self
