"""What goes into making a detector, and what comes out of it beside the detector."""

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from kdad.compute import Compute
from kdad.storage.content_store import ContentStore

#: Outputs of frozen networks `(B, C_i, h_i, w_i)`, by the networks' names.
FrozenOutputs = dict[str, list[Tensor]]


@dataclass(frozen=True)
class TrainContext:
    """Where a detector is made: the machine, the seed, and the store of networks that are trained already.

    `split_seed` is the run's, by which images are held out.
    """

    compute: Compute
    seed: int
    models: ContentStore
    split_seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """What fitting left besides the detector: its cost, and the loss by epoch, split and term, if one was followed."""

    history: pd.DataFrame | None
    seconds: float
    reused: bool
    network: str = "network"


@dataclass(frozen=True)
class Outputs:
    """What a detector says of a batch before smoothing: scores `(B,)` and maps `(B, H, W)`, by name."""

    scores: dict[str, Tensor]
    maps: dict[str, Tensor]
