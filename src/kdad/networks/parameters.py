"""The ``source:``, ``features:`` and ``compute:`` blocks: the frozen network, its cache, the machine."""

from typing import Literal

from pydantic import Field

from kdad.parameters.strict import StrictModel


class SourceParameters(StrictModel):
    """The ``source:`` block."""

    name: str = Field(
        "efficientnet_lite0",
        description="efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, vgg16, resnet18 or timm:<name>",
    )
    weights: str = Field("pretrained", description="pretrained, random, or a safetensors or state-dict file")
    critical_points: list[str] | None = Field(None, description="names, in any order; null: the source's usual four")
    input_normalisation: Literal["source", "dataset", "none"] = Field(
        "source",
        description="source: what it was trained with; dataset: the training images' statistics; none: [0, 1] as it is",
    )


class FeatureParameters(StrictModel):
    """The ``features:`` block."""

    batch_size: int = Field(32, ge=1, description="images in one forward pass of the source")
    activation_scaling: Literal["per_point", "none"] = Field(
        "per_point",
        description="each critical point divided by its standard deviation over the training images, or none",
    )
    outputs_on_disk: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="of kept outputs; auto: as computed; 16 bits take half the disk (docs/lab/measurements.md)"
    )
    images_on_disk: Literal["float32", "float16", "uint8"] = Field(
        "float32", description="of the images kept beside them; uint8 takes a quarter of the disk"
    )
