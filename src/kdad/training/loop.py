"""The one training loop: an optimiser, a schedule, validation on held-out normal images, checkpoints, loss history."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from rich.progress import TextColumn
from torch import Tensor, nn

from kdad.errors import DivergedError
from kdad.parameters.training import TrainingParameters
from kdad.progress import progress_bar
from kdad.seeding import derive_seed, numpy_generator
from kdad.training.checkpoints import CheckpointFile

logger = logging.getLogger(__name__)

#: A batch's loss: the rows of the training set in, each term's value for every row out; ``total`` is minimised.
BatchLoss = Callable[[np.ndarray], dict[str, Tensor]]
_NAMED = 5  # images in a message


@dataclass
class TrainingTask:
    """What is trained on which rows; the loop knows nothing of networks' inputs.

    `begin` is told the number of each epoch, from 0, before it begins. `names` says which image a row is, in messages.
    """

    name: str
    module: nn.Module
    loss: BatchLoss
    training_rows: np.ndarray
    validation_rows: np.ndarray
    begin: Callable[[int], None] = lambda epoch: None
    names: Callable[[int], str] = "row {}".format


def train(task: TrainingTask, parameters: TrainingParameters, seed: int, checkpoint: CheckpointFile) -> pd.DataFrame:
    """Train `task.module` in place to the last epoch and return the loss history.

    The history has a row for each epoch, split (training or validation) and term: columns epoch, split, term, value.
    Each epoch's order is drawn from the seed and the epoch's number, so a resumed run meets the same batches.
    Raises `DivergedError` that names epoch, batch and images when the loss is no longer finite; the weights are not
    moved by it, and the last checkpoint is as it was.
    """
    steps = math.ceil(len(task.training_rows) / parameters.batch_size)
    optimiser = _optimiser(task.module, parameters)
    schedule = _schedule(optimiser, parameters, steps)
    history, first_epoch, left_out = _resume(task, optimiser, schedule, checkpoint)
    for epoch in _progress(task.name, first_epoch, parameters.epochs, history):
        torch.manual_seed(derive_seed(seed, task.name, "epoch", epoch))
        order = numpy_generator(seed, task.name, "order", epoch).permutation(task.training_rows)
        task.begin(epoch)
        task.module.train()
        losses, by_row = [], []
        # Nearly equal batches: a last batch of one image would spoil BatchNorm's statistics.
        for rows in np.array_split(order, steps):
            terms = task.loss(rows)
            _check_finite(terms, task, rows, f"epoch {epoch + 1} of {parameters.epochs}, batch {len(losses) + 1}")
            step, totals = _step(terms, optimiser, rows, left_out)
            losses.append((len(rows), step))
            by_row.append(totals)
            schedule.step()
        left_out = _highest(order, np.concatenate(by_row), 1 - parameters.loss_quantile)
        validated = _validate(task, parameters.batch_size, f"epoch {epoch + 1} of {parameters.epochs}, held-out batch")
        history += _rows(epoch, "training", losses) + _rows(epoch, "validation", validated)
        if (epoch + 1) % parameters.checkpoint_every == 0 and epoch + 1 < parameters.epochs:
            checkpoint.save(_state(task, optimiser, schedule, epoch, history, left_out))
    task.module.eval()
    return pd.DataFrame(history, columns=["epoch", "split", "term", "value"])


def _step(
    terms: dict[str, Tensor], optimiser: torch.optim.Optimizer, rows: np.ndarray, left_out: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Step on the rows that are not `left_out`; return each term's mean over all rows, and the total of every one."""
    total = terms["total"]
    kept = np.flatnonzero(~np.isin(rows, left_out))
    if len(kept):
        optimiser.zero_grad(set_to_none=True)
        (total if len(kept) == len(rows) else total[torch.from_numpy(kept)]).mean().backward()
        optimiser.step()
    means = {term: values.detach().mean().item() for term, values in terms.items()}
    return means, total.detach().float().cpu().numpy()


def _highest(rows: np.ndarray, losses: np.ndarray, share: float) -> np.ndarray:
    """Return the rows of the highest losses, a `share` of all rounded down: they sit out the next epoch.

    The trimmed loss (Shen and Sanghavi 2019, algorithm 1), chosen anew in each epoch among all rows.
    """
    count = int(round(share * len(rows), 9))
    return rows[np.argsort(losses, kind="stable")][len(rows) - count :]


@torch.no_grad()
def _validate(task: TrainingTask, batch_size: int, where: str) -> list[tuple[int, dict[str, float]]]:
    task.module.eval()
    found = []
    for rows in np.array_split(task.validation_rows, math.ceil(len(task.validation_rows) / batch_size)):
        terms = task.loss(rows)
        _check_finite(terms, task, rows, f"{where} {len(found) + 1}")
        found.append((len(rows), {term: values.mean().item() for term, values in terms.items()}))
    return found


@torch.no_grad()
def _check_finite(terms: dict[str, Tensor], task: TrainingTask, rows: np.ndarray, where: str) -> None:
    """Raise `DivergedError` that names the images whose loss is not finite."""
    finite = torch.stack([torch.isfinite(values).expand(len(rows)) for values in terms.values()])
    spoilt = ~finite.all(dim=0).cpu().numpy()
    if not spoilt.any():
        return
    names = [task.names(int(row)) for row in rows[spoilt]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise DivergedError(
        f"the loss of {task.name} is not finite in {where}, for {', '.join(names[:_NAMED])}{more}; look at these "
        "images, or lower the training's learning_rate. The last checkpoint is kept"
    )


def _rows(epoch: int, split: str, losses: list[tuple[int, dict[str, float]]]) -> list[dict]:
    sums: dict[str, float] = defaultdict(float)
    for count, terms in losses:
        for term, value in terms.items():
            sums[term] += count * value
    images = sum(count for count, _ in losses)
    return [{"epoch": epoch, "split": split, "term": term, "value": total / images} for term, total in sums.items()]


def _optimiser(module: nn.Module, parameters: TrainingParameters) -> torch.optim.Optimizer:
    common = {"lr": parameters.learning_rate, "weight_decay": parameters.weight_decay}
    if parameters.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), momentum=parameters.momentum, **common)
    return torch.optim.Adam(module.parameters(), **common)


def _schedule(
    optimiser: torch.optim.Optimizer, parameters: TrainingParameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if parameters.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=parameters.learning_rate, total_steps=steps * parameters.epochs
    )


def _state(task, optimiser, schedule, epoch: int, history: list[dict], left_out: np.ndarray) -> dict:
    return {
        "epoch": epoch,
        "module": task.module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": {key: value for key, value in schedule.state_dict().items() if not callable(value)},
        "history": history,
        "left_out": left_out.tolist(),
    }


def _resume(task, optimiser, schedule, checkpoint: CheckpointFile) -> tuple[list[dict], int, np.ndarray]:
    state = checkpoint.load()
    if state is None:
        return [], 0, np.empty(0, dtype=int)
    task.module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    logger.info("Resuming %s after epoch %d", task.name, state["epoch"] + 1)
    return state["history"], state["epoch"] + 1, np.array(state["left_out"], dtype=int)


def _progress(name: str, first: int, epochs: int, history: list[dict]) -> Iterator[int]:
    """Count epochs with a bar on a terminal, and with a line at each tenth of the way in a log."""
    started = time.perf_counter()
    with progress_bar(TextColumn("{task.fields[loss]}")) as bar:
        shown = bar.add_task(f"Training {name}", total=epochs, completed=first, loss="")
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
