"""How a folder is watched."""

from pydantic import Field

from kdad.parameters.strict import StrictModel


class WatchingParameters(StrictModel):
    """When a file that arrives is complete, when one is given up, when a watch ends by itself."""

    polling: bool = Field(False, description="look at the folder again and again: network folders tell of no changes")
    poll_seconds: float = Field(1.0, gt=0, le=3600, description="between two looks when polling")
    settle_seconds: float = Field(1.0, ge=0, le=3600, description="a file is complete when unchanged for so long")
    patience_seconds: float = Field(
        10.0, ge=0, le=86400, description="a file that cannot be read is tried again after so long unchanged, then told"
    )
    page_seconds: float = Field(5.0, gt=0, le=86400, description="between two versions of the page, at least")
    page_images: int = Field(500, ge=1, le=20000, description="latest images on the page; the table has all")
    idle_seconds: float | None = Field(None, gt=0, description="end when nothing came for so long; null: never")
    seconds: float | None = Field(None, gt=0, description="end after so long; null: never")
