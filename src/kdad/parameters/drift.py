"""When scores of new images are said to have left those of held-out normal ones."""

from pydantic import Field

from kdad.parameters.strict import StrictModel


class DriftParameters(StrictModel):
    """How scores are compared with those of held-out normal images."""

    alpha: float = Field(
        0.01, gt=0, le=0.2, description="chance of a false report: of one inference, or in all the life of a watch"
    )
    window: int = Field(200, ge=40, description="of a watch: the latest images that are compared, every half window")
