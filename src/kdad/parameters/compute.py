"""The ``compute:`` block: the machine."""

from typing import Literal

from pydantic import Field

from kdad.parameters.strict import StrictModel


class ComputeParameters(StrictModel):
    """The ``compute:`` block."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where networks run")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of convolutions and cached activations; auto: bfloat16 where the hardware multiplies it"
    )
    threads: int | None = Field(None, ge=1, description="of torch; null: every core that this process may use")
    compile: bool = Field(
        False, description="networks run through torch.compile, which pays on large sets (docs/lab/benchmarks.md)"
    )
