"""A cloner learns from the cache what it would learn from the source, and the source learns nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ClonerParameters, DiscrepancyParameters
from kdad.detectors.mkd.training import train_cloner
from kdad.errors import InputError
from kdad.networks.source import choose_points
from kdad.networks.weights import fingerprint_weights
from kdad.training.checkpoints import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


def _cloner(size="small", epochs=2, **top) -> dict:
    training = {"epochs": epochs, "batch_size": 3, "checkpoint_every": 1}
    return {"architecture": {"size": size}, "loss": {"direction_form": "whole_vector"}, "training": training, **top}


def _parameters(*args, **named) -> ClonerParameters:
    return ClonerParameters(**_cloner(*args, **named))


def _no_step(*args, **named) -> ClonerParameters:
    """A training whose steps are too small to change a float32."""
    found = _parameters(*args, **named)
    return found.model_copy(update={"training": found.training.model_copy(update={"learning_rate": 1e-30})})


@pytest.fixture
def prepared(prepare, settings):
    """The images seen by a source of this name, and the detector."""
    return lambda name, **given: prepare(MkdDetector, settings(source={"name": name}, **given))


@pytest.fixture
def train(tmp_path):
    """Train a cloner in float32, with a checkpoint in the test's folder; return it with its history."""

    def run(prepared, parameters=None, seed=0, folder="checkpoints", compute=_FLOAT32):
        detector, seen = prepared
        cache, parameters = seen.features["source"], parameters or _parameters()
        detector._shape(cache.points, cache.size, [1.0] * 4, seed)
        detector.settings = detector.settings.model_copy(update={"cloner": parameters})
        torch.manual_seed(seed)
        cloner = detector._new_cloner()
        positions = choose_points(parameters.training_points, cache.names, "cloner.training_points")
        checkpoint = CheckpointFile(tmp_path / folder / "cloner.checkpoint", "key")
        return cloner, train_cloner(cloner, seen, [1.0] * 4, positions, parameters, compute, seed, checkpoint)

    return run


def _all_equal(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "timm:test_resnet", "timm:test_vit"])
@pytest.mark.parametrize("form", ["whole_vector", "per_location"])
def test_the_loss_from_the_cache_equals_the_loss_from_the_source(prepared, name, form, monkeypatch):
    scales = [0.5, 2.0, 3.0, 0.25]
    detector, seen = prepared(name)
    cache, rows = seen.features["source"], np.array([6, 0, 3, 4])
    detector._shape(cache.points, cache.size, scales, 0)
    cloner, losses = detector._new_cloner().eval(), []
    monkeypatch.setattr("kdad.detectors.mkd.training.train", lambda task, *_: losses.append(task.loss))
    parameters = _parameters(loss={"direction_form": form})
    train_cloner(cloner, seen, scales, [0, 1, 2, 3], parameters, _FLOAT32, 0, CheckpointFile("none", "key"))
    images = torch.from_numpy(seen.images.pixels[rows])
    with torch.no_grad():
        cached = losses[0](rows)
        live = [found / scale for found, scale in zip(detector.frozen["source"].module(images), scales, strict=True)]
        uncached = discrepancy_terms(live, cloner(images), DiscrepancyParameters(direction_form=form))
    for term, values in cached.items():
        torch.testing.assert_close(values, uncached[term], rtol=1e-5, atol=1e-6)


@pytest.mark.sample(2)
@pytest.mark.parametrize("size", ["small", "equal"])
@pytest.mark.parametrize("name", [pytest.param("vgg16", marks=pytest.mark.long), "resnet18", "efficientnet_lite0"])
def test_training_changes_the_cloner_and_nothing_of_the_source(prepared, train, name, size):
    ready = prepared(name)
    source = ready.detector.frozen["source"].module
    before = fingerprint_weights(source)
    cloner, _ = train(ready, _parameters(size, epochs=1))
    assert fingerprint_weights(source) == before  # BatchNorm's statistics are part of it
    untrained, _ = train(ready, _no_step(size, epochs=1))
    pairs = zip(cloner.named_parameters(), untrained.parameters(), strict=True)
    # Convolutions only: a bias that a BatchNorm behind it takes out again may stay.
    assert [key for (key, tensor), still in pairs if tensor.dim() == 4 and torch.equal(tensor, still)] == []


def _fit(prepare, settings, train_context, folder, seed=0, **cloner):
    """Fit a detector in a train_context of its own; return the cloner's weights and the history."""
    place = TrainContext(
        train_context.compute, seed, replace(train_context.models, root=train_context.models.root / folder)
    )
    detector, seen = prepare(MkdDetector, settings(cloner=_cloner(**cloner)))
    fitting = detector.fit(seen, place)
    assert not fitting.reused
    return detector.state_dict(), fitting.history


def test_one_seed_gives_one_cloner_and_another_seed_another(prepare, settings, train_context):
    state, history = _fit(prepare, settings, train_context, "first")
    torch.rand(3)
    again, history_again = _fit(prepare, settings, train_context, "second")
    assert _all_equal(state, again)
    pd.testing.assert_frame_equal(history, history_again, check_exact=True)
    other, _ = _fit(prepare, settings, train_context, "third", seed=1)
    assert not _all_equal(state, other)


def test_a_resumed_cloner_equals_an_uninterrupted_one(monkeypatch, prepare, settings, train_context):
    state, history = _fit(prepare, settings, train_context, "whole", epochs=4)
    train_killed_at(monkeypatch, 2, _fit, prepare, settings, train_context, "cut", epochs=4)
    (left,) = (train_context.models.root / "cut").iterdir()
    assert left.suffix == ".partial"
    assert torch.load(left / "training.checkpoint", weights_only=True)["epoch"] == 1
    resumed, resumed_history = _fit(prepare, settings, train_context, "cut", epochs=4)
    assert _all_equal(state, resumed)
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_history_has_the_losses_terms_of_both_splits(prepared, train):
    _, history = train(prepared("timm:test_resnet"), _parameters(epochs=3))
    pivot = history.pivot(index=["epoch", "split"], columns="term", values="value")
    assert list(pivot.index) == [(epoch, split) for epoch in range(3) for split in ("training", "validation")]
    np.testing.assert_allclose(pivot["total"], 0.5 * pivot["L_val"] + pivot["L_dir"], rtol=1e-5)


def test_training_reads_its_own_rows_only(prepared, train):
    ready = prepared("timm:test_resnet")
    cloner, history = train(ready, folder="clean")
    cache = ready.feature_set.features["source"]
    for array in (cache.pixels, *cache.arrays):
        spoilt = np.load(array.filename, mmap_mode="r+")
        spoilt[ready.feature_set.split.rows("test")] = np.nan
        spoilt.flush()
    again, history_again = train(ready, folder="spoilt")
    assert _all_equal(cloner.state_dict(), again.state_dict())
    pd.testing.assert_frame_equal(history, history_again, check_exact=True)


@pytest.mark.parametrize(("name", "epochs"), [("timm:test_resnet", 15), ("timm:test_vit", 30)])
def test_training_lowers_the_loss(prepared, train, name, epochs):
    _, history = train(prepared(name), _parameters(epochs=epochs))
    total = history[(history["split"] == "training") & (history["term"] == "total")]["value"].to_numpy()
    assert total[-1] < 0.5 * total[0]


def test_only_the_chosen_points_are_trained(prepared, train):
    ready = prepared("timm:test_resnet")
    chosen = {"epochs": 1, "training_points": ["stage1", "stage2"]}
    cloner, _ = train(ready, _parameters(**chosen))
    untrained, _ = train(ready, _no_step(**chosen), folder="none")
    moved = {
        index: any(not torch.equal(*pair) for pair in zip(block.parameters(), still.parameters(), strict=True))
        for index, (block, still) in enumerate(zip(cloner.blocks, untrained.blocks, strict=True))
    }
    last = [index for index, ends in enumerate(untrained.ends) if ends][1]
    assert moved == {index: index <= last for index in moved}
    with pytest.raises(InputError, match=r"cloner\.training_points: there is no critical point 'stage9'"):
        prepared("timm:test_resnet", cloner=_cloner(training_points=["stage9"]))


def test_bfloat16_convolutions_leave_parameters_in_float32(prepared, train):
    ready = prepared("timm:test_resnet")
    cloner, history = train(ready, compute=Compute(torch.device("cpu"), torch.bfloat16))
    assert {parameter.dtype for parameter in cloner.parameters()} == {torch.float32}
    full = train(ready, folder="full")[1]
    assert not np.array_equal(history["value"], full["value"])
    np.testing.assert_allclose(history["value"], full["value"], rtol=0.1)
