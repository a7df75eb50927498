"""A network that is trained once and found again by everything that it depends on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdad.storage.content_store import ContentStore
from kdad.training.loop import CHECKPOINT, CheckpointFile

if TYPE_CHECKING:
    import pandas as pd

_HISTORY = "loss_history.csv"
_WEIGHTS = "weights.safetensors"
_OUTPUTS = "outputs.safetensors"
_COST = "cost.json"


@dataclass(frozen=True)
class Trained:
    """A finished training in the store: its key and folder, the loss history, and whether it was there already."""

    key: str
    folder: Path
    reused: bool

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / _WEIGHTS

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights by name."""
        return load_file(self.weights)

    @property
    def history(self) -> "pd.DataFrame":
        """The loss by epoch, split and term."""
        import pandas as pd  # late: predicting takes none

        return pd.read_csv(self.folder / _HISTORY)

    @property
    def outputs(self) -> dict[str, Tensor]:
        """What the network gave for known images, where that was kept."""
        return load_file(self.folder / _OUTPUTS)

    @property
    def seconds(self) -> float:
        """How long the training took."""
        return json.loads((self.folder / _COST).read_text())["seconds"]


def train_once(
    store: ContentStore,
    key: str,
    train: Callable[[CheckpointFile], tuple[nn.Module, "pd.DataFrame"]],
    predict: Callable[[nn.Module], dict[str, Tensor]] | None = None,
) -> Trained:
    """Train a network, or find it trained; the checkpoint goes when the network is in the store.

    What `predict` gives of it is kept beside it.
    """

    def build(folder: Path) -> None:
        started = perf_counter()
        checkpoint = CheckpointFile(folder / CHECKPOINT, key)
        network, history = train(checkpoint)
        save_file(state_of(network), folder / _WEIGHTS)
        history.to_csv(folder / _HISTORY, index=False)
        if predict is not None:
            save_file(predict(network), folder / _OUTPUTS)
        (folder / _COST).write_text(json.dumps({"seconds": perf_counter() - started}))

    folder, reused = store.obtain(key, build, progress=CHECKPOINT)
    return Trained(key, folder, reused)


def join_histories(histories: dict[str, "pd.DataFrame"]) -> "pd.DataFrame":
    """Return the loss histories of several networks as one, with the network's name before each term."""
    import pandas as pd

    named = [history.assign(term=f"{name}." + history["term"]) for name, history in histories.items()]
    return pd.concat(named, ignore_index=True)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors by name, on the CPU, as safetensors takes them."""
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(run: Callable[[], Any]) -> int:
    """Return the multiplications and additions of what `run` computes."""
    from torch.utils.flop_counter import FlopCounterMode  # here, since it imports Triton

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with `prefix` before their names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
