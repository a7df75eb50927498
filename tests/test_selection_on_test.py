"""The table of `benchmarks/selection_on_test.py`, of metrics that are chosen by hand; and the steps of a training."""

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from kdad.detectors.registry import SYSTEMS
from kdad.parameters.blocks import TrainingParameters
from kdad.training.loop import CheckpointFile, TrainingTask, train
from projects import PROJECT
from selection_on_test import SETTINGS, SHIPPED, blocks_of, kept_steps, render


def at(shipped: float, other: float) -> dict[str, dict[str, float]]:
    """Metrics of a step by two settings."""
    return {name: {"image_auroc": one, "pro_auc": one / 2} for name, one in ((SHIPPED, shipped), ("other", other))}


def test_the_last_step_stands_beside_what_the_test_images_would_choose():
    steps = {0: {"5": at(0.9, 0.5), "10": at(0.8, 0.85)}, 1: {"5": at(0.6, 0.95), "10": at(0.7, 0.75)}}
    text = render({("brick", "mkd"): steps})
    # Last .8 and .7, best steps .9 and .7, the other setting's last .85 and .75, best of all .9 and .95.
    assert "| brick | mkd | 75.0 ± 7.1 | 80.0 ± 14.1 | 80.0 ± 7.1 | 92.5 ± 3.5 | other | 5, 10 |" in text
    assert "| brick | mkd | 37.5 ± 3.5 | 40.0 ± 7.1 | 40.0 ± 3.5 | 46.2 ± 1.8 | other | 5, 10 |" in text


def test_a_training_is_the_shipped_one_but_for_what_is_given():
    base = yaml.safe_load((PROJECT / "conf/base/parameters/cloner.yml").read_text())["cloner"]["training"]
    assert blocks_of("mkd", {"checkpoint_every": 10})["cloner"]["training"] == base | {"checkpoint_every": 10}
    for system in SETTINGS:
        assert SYSTEMS[system].Settings.model_validate(blocks_of(system, {"epochs": 3}))


def test_the_network_of_every_checkpoint_is_kept(tmp_path):
    module, rows, checkpoint = torch.nn.Linear(1, 1), np.arange(4), CheckpointFile(tmp_path / "checkpoint", "key")
    seen = []

    def loss(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {"total": module(torch.ones(len(rows), 1)).square().flatten()}

    task = TrainingTask("line", module, loss, rows, rows, begin=lambda epoch: seen.append(module.weight.item()))
    save = CheckpointFile.save
    with kept_steps(tmp_path / "steps"):
        train(task, TrainingParameters(epochs=5, batch_size=2, checkpoint_every=2), 0, checkpoint)
    assert CheckpointFile.save is save
    kept = {path.name: load_file(path)["weight"].item() for path in (tmp_path / "steps").iterdir()}
    assert kept == {"2.safetensors": seen[2], "4.safetensors": seen[4]}
    assert checkpoint.load()["epoch"] == 3
