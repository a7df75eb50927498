"""How a large image is cut: the ``tiles`` of several blocks."""

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


def tiles_suffix(size: int | None, overlap: int | None) -> str:
    """Return what tiles add to the name of a folder of their results, such as ``_tiles_256_64``."""
    return "_".join(["_tiles", *(str(value) for value in (size, overlap) if value is not None)])


class TileParameters(StrictModel):
    """Overlapping parts of an image that are judged, or learnt from, one by one."""

    size: int | None = Field(
        None, ge=8, description="longer side in the image's own pixels; null: the detector's size, nothing is resized"
    )
    overlap: int | None = Field(None, ge=0, description="pixels that neighbours share at least; null: a quarter")

    @model_validator(mode="after")
    def _half_at_most(self) -> "TileParameters":
        if self.size is not None and self.overlap is not None and 2 * self.overlap > self.size:
            raise ValueError(
                f"overlap {self.overlap} is more than half of size {self.size}; neighbours share half of a tile at most"
            )
        return self
