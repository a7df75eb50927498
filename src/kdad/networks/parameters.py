"""The ``source:`` and ``features:`` blocks, and how small an image may be; without a network imported."""

from typing import Literal

from pydantic import Field

from kdad.errors import InputError
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


def smallest_image(patch_size: int) -> int:
    """Return how many pixels a side an image needs: more than half a patch, which is what is mirrored."""
    return patch_size // 2 + 1


def check_size(size: tuple[int, int], patch_size: int) -> None:
    """Raise `InputError` for images of (H, W) pixels below `smallest_image`."""
    if min(size) < smallest_image(patch_size):
        raise InputError(
            f"images of {size[0]} x {size[1]} pixels are too small for the receptive field {patch_size}, which needs "
            f"{smallest_image(patch_size)} a side; set a larger dataset.image_size, or leave {patch_size} out of "
            "students.receptive_fields"
        )
