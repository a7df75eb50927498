"""The ``reporting:`` block: what the figures show."""

from pydantic import Field

from kdad.parameters.strict import StrictModel


class ReportingParameters(StrictModel):
    """The ``reporting:`` block."""

    sheet_rows: int = Field(4, ge=1, le=20, description="images in each section of the heat-map sheet")
    case_sheet_rows: int = Field(2, ge=1, le=10, description="the same of a case of a comparison")
