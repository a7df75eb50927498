"""The ``source:``, ``features:`` and ``compute:`` blocks: the frozen network, its cache, the machine."""

from typing import Literal

from pydantic import Field

from kdad.parameters.strict import StrictModel


class SourceParameters(StrictModel):
    """The ``source:`` block."""

    name: str = Field(
        "efficientnet_lite0", description="efficientnet_lite0, _lite1, _lite2, vgg16, resnet18 or timm:<name>"
    )
    weights: str = Field("pretrained", description="pretrained, random, or a safetensors or state-dict file")
    critical_points: list[str] | None = Field(None, description="names, in any order; null: the source's usual four")
    input_normalisation: Literal["source", "dataset", "none"] = Field(
        "source",
        description="what the source was trained with, the training images' own statistics, or [0, 1] as it is",
    )


class FeatureParameters(StrictModel):
    """The ``features:`` block."""

    batch_size: int = Field(32, ge=1, description="images in one forward pass of the source")
    activation_scaling: Literal["per_point", "none"] = Field(
        "per_point", description="divide each critical point by its standard deviation over the training images, or not"
    )
    outputs_on_disk: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="format in which the source's outputs are kept; auto: as they are computed"
    )
    images_on_disk: Literal["float32", "float16", "uint8"] = Field(
        "float32", description="format in which the images are kept beside them"
    )
