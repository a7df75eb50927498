"""The ``patches:`` block: which patches are sampled from the training images."""

from pydantic import Field

from kdad.parameters.strict import StrictModel


class PatchParameters(StrictModel):
    """The ``patches:`` block."""

    size: int = Field(17, ge=1, description="side of a patch in pixels, the students' receptive field p")
    per_image: int = Field(4, ge=1, description="patches sampled from each training image")
