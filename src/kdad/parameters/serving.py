"""The ``serving:`` block: a detector behind HTTP, and what it takes of one request and of all together."""

from pydantic import Field

from kdad.parameters.strict import StrictModel


class ServingParameters(StrictModel):
    """The ``serving:`` block."""

    host: str = Field("127.0.0.1", description="address to listen at: the loopback; 0.0.0.0 lets other machines ask")
    port: int = Field(8080, ge=0, le=65535, description="0: a free one, which is said")
    body_megabytes: float = Field(32.0, gt=0, le=1024, description="largest body of a request; more is refused by 413")
    megapixels: float = Field(
        32.0,
        gt=0,
        le=178,
        description="largest image, by its header, before decoding, which takes up to 25 bytes a pixel",
    )
    images: int = Field(64, ge=1, le=10000, description="images of one request at most")
    queue: int = Field(64, ge=1, le=10000, description="requests in the house at once; more are refused by 503")
    batch_size: int = Field(8, ge=1, le=1024, description="images judged at once, of requests that wait together")
    seconds: float = Field(30.0, gt=0, le=3600, description="time of a request, its body's arrival included; then 504")
