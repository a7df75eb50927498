"""The one training loop: optimiser, schedule, a loss on normal validation images, checkpoints, loss history."""

import hashlib
import io
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import TextColumn
from torch import Tensor, nn

from kdad.errors import DivergedError, first_of
from kdad.parameters.blocks import TrainingParameters
from kdad.progress import loss_listeners, progress_bar
from kdad.seeding import COMMON_GENERATOR, derive_seed, numpy_generator
from kdad.storage.replacing import replacing_file

if TYPE_CHECKING:
    import pandas as pd


logger = logging.getLogger(__name__)

#: The name of a training's checkpoint in the folder that it fills.
CHECKPOINT = "training.checkpoint"
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class CheckpointFile:
    """One file, replaced as a whole; its key says which training it belongs to, its last 32 bytes are its SHA-256."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary name, then rename: a kill, or a disk that is full, leaves the older checkpoint."""
        with replacing_file(self.path) as temporary, temporary.open("w+b") as file:
            torch.save({"key": self.key, **state}, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0, os.SEEK_END)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None when there is none or it belongs to a training with other settings.

        A file that was cut short or changed is named in a warning, and not used: the training begins anew.
        """
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            logger.warning("The checkpoint '%s' is damaged (its SHA-256 is another): training anew", self.path)
            return None
        state = torch.load(io.BytesIO(content[:-_DIGEST]), map_location="cpu", weights_only=True)
        return state if state.get("key") == self.key else None


#: A batch's loss: the rows of the training set in, each term's value for every row out; ``total`` is minimised.
BatchLoss = Callable[[np.ndarray], dict[str, Tensor]]
_NAMED = 5  # images in a message


@dataclass
class TrainingTask:
    """What is trained on which rows; the loop knows nothing of networks' inputs.

    `begin` is told the number of each epoch, from 0, before it begins. `names` says which image a row is, in messages.
    `metric` says what its losses are called while it trains (``cloner.{split}.{term}``); without it nobody is told.
    """

    name: str
    module: nn.Module
    loss: BatchLoss
    training_rows: np.ndarray
    validation_rows: np.ndarray
    begin: Callable[[int], None] = lambda epoch: None
    names: Callable[[int], str] = "row {}".format
    metric: str | None = None


def train(task: TrainingTask, parameters: TrainingParameters, seed: int, checkpoint: CheckpointFile) -> "pd.DataFrame":
    """Train `task.module` in place to the last epoch and return the loss history.

    The history has a row for each epoch, split (training or validation) and term: columns epoch, split, term, value.
    One network trains at a time in a process. Each epoch's order is drawn from the seed and the epoch's number, so a
    resumed run meets the same batches. Raises `DivergedError` that names epoch, batch and images when the loss is no
    longer finite; the weights are not moved by it, and the last checkpoint is as it was.
    """
    import pandas as pd  # late: predicting takes none

    steps = math.ceil(len(task.training_rows) / parameters.batch_size)
    optimiser = _optimiser(task.module, parameters)
    schedule = _schedule(optimiser, parameters, steps)
    history, first_epoch = _resume(task, optimiser, schedule, checkpoint)
    with COMMON_GENERATOR:
        for epoch in _progress(task.name, first_epoch, parameters.epochs, history):
            rows = _train_epoch(task, parameters, seed, epoch, optimiser, schedule)
            history += rows
            for tell in loss_listeners if task.metric is not None else ():
                tell(task.metric, rows)
            if (epoch + 1) % parameters.checkpoint_every == 0 and epoch + 1 < parameters.epochs:
                checkpoint.save(_state(task, optimiser, schedule, epoch, history))
    task.module.eval()
    _warn_of_rise(task.name, history)
    return pd.DataFrame(history, columns=["epoch", "split", "term", "value"])


def _train_epoch(
    task: TrainingTask,
    parameters: TrainingParameters,
    seed: int,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> list[dict]:
    torch.manual_seed(derive_seed(seed, task.name, "epoch", epoch))
    order = numpy_generator(seed, task.name, "order", epoch).permutation(task.training_rows)
    task.begin(epoch)
    task.module.train()
    losses, where = [], f"epoch {epoch + 1} of {parameters.epochs}"
    # Nearly equal batches: a last batch of one image would spoil BatchNorm's statistics.
    for rows in np.array_split(order, math.ceil(len(order) / parameters.batch_size)):
        terms = task.loss(rows)
        _check_finite(terms, task, rows, f"{where}, batch {len(losses) + 1}")
        losses.append(_step(terms, optimiser, rows))
        schedule.step()
    validated = _validate(task, parameters.batch_size, f"{where}, validation batch")
    return _rows(epoch, "training", losses) + _rows(epoch, "validation", validated)


def _step(
    terms: dict[str, Tensor], optimiser: torch.optim.Optimizer, rows: np.ndarray
) -> tuple[int, dict[str, Tensor]]:
    """Return the terms' means where they are: a graphics card goes on while they are not looked at."""
    optimiser.zero_grad(set_to_none=True)
    terms["total"].mean().backward()
    optimiser.step()
    return len(rows), {term: values.detach().mean() for term, values in terms.items()}


@torch.no_grad()
def _validate(task: TrainingTask, batch_size: int, where: str) -> list[tuple[int, dict[str, Tensor]]]:
    task.module.eval()
    found = []
    for rows in np.array_split(task.validation_rows, math.ceil(len(task.validation_rows) / batch_size)):
        terms = task.loss(rows)
        _check_finite(terms, task, rows, f"{where} {len(found) + 1}")
        found.append((len(rows), {term: values.mean() for term, values in terms.items()}))
    return found


@torch.no_grad()
def _check_finite(terms: dict[str, Tensor], task: TrainingTask, rows: np.ndarray, where: str) -> None:
    finite = torch.stack([torch.isfinite(values).expand(len(rows)) for values in terms.values()])
    if bool(finite.all()):  # the one look a step that waits for the device
        return
    spoilt = ~finite.all(dim=0).cpu().numpy()
    names = [task.names(int(row)) for row in rows[spoilt]]
    raise DivergedError(
        f"the loss of {task.name} is not finite in {where}, for {first_of(names, _NAMED)}; look at these "
        "images, or lower the training's learning_rate. The last checkpoint is kept"
    )


def _warn_of_rise(name: str, history: list[dict]) -> None:
    """Say when the training loss has risen again by more than half of what it had fallen."""
    totals = [row["value"] for row in history if (row["split"], row["term"]) == ("training", "total")]
    lowest, last = min(totals), totals[-1]
    if last - lowest > (totals[0] - lowest) / 2:
        logger.warning(
            "The training loss of %s ended at %.4g after %.4g in epoch %d: it has lost more than half of what it had "
            "learnt; a lower learning_rate learns more steadily",
            *(name, last, lowest, totals.index(lowest) + 1),
        )


def _rows(epoch: int, split: str, losses: list[tuple[int, dict[str, Tensor]]]) -> list[dict]:
    """Return a row for each term, its mean over images; the numbers are fetched now, all batches' at once."""
    images = sum(count for count, _ in losses)
    rows = []
    for term in losses[0][1]:
        values = torch.stack([terms[term] for _, terms in losses]).tolist()
        total = sum(count * value for (count, _), value in zip(losses, values, strict=True))
        rows.append({"epoch": epoch, "split": split, "term": term, "value": total / images})
    return rows


def _optimiser(module: nn.Module, parameters: TrainingParameters) -> torch.optim.Optimizer:
    common = {"lr": parameters.learning_rate, "weight_decay": parameters.weight_decay}
    if parameters.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), momentum=parameters.momentum, **common)
    return torch.optim.Adam(module.parameters(), betas=(parameters.momentum, 0.999), **common)


def _schedule(
    optimiser: torch.optim.Optimizer, parameters: TrainingParameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if parameters.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=parameters.learning_rate, total_steps=steps * parameters.epochs
    )


def _state(task, optimiser, schedule, epoch: int, history: list[dict]) -> dict:
    return {
        "epoch": epoch,
        "module": task.module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": {key: value for key, value in schedule.state_dict().items() if not callable(value)},
        "history": history,
    }


def _resume(task, optimiser, schedule, checkpoint: CheckpointFile) -> tuple[list[dict], int]:
    state = checkpoint.load()
    if state is None:
        return [], 0
    task.module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    logger.info("Resuming %s after epoch %d", task.name, state["epoch"] + 1)
    return state["history"], state["epoch"] + 1


def _progress(name: str, first: int, epochs: int, history: list[dict]) -> Iterator[int]:
    """Count epochs with a bar on a terminal, and with a line at each tenth of the way in a log."""
    started = time.perf_counter()
    with progress_bar(TextColumn("{task.fields[loss]}")) as bar:
        shown = bar.add_task(f"Training {name}", total=epochs, completed=first, found=first, loss="")
        for epoch in range(first, epochs):
            yield epoch
            latest = {(row["split"], row["term"]): row["value"] for row in history[-6:]}
            loss = " ".join(
                f"{split} {latest.get((split, 'total'), math.nan):.4f}" for split in ("training", "validation")
            )
            bar.update(shown, completed=epoch + 1, loss=loss)
            if (epoch + 1) % max(epochs // 5, 1) == 0:
                seconds = time.perf_counter() - started
                logger.info("%s: epoch %d of %d, loss %s, %.0f s", name, epoch + 1, epochs, loss, seconds)
