"""A cloner learns from the cache what it would learn from the source, and the source learns nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ClonerParameters, DiscrepancyParameters
from kdad.detectors.mkd.training import build_cloner_for, train_cloner_on_cache
from kdad.errors import InputError
from kdad.networks.weights import fingerprint_weights
from kdad.training.checkpoints import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


def _parameters(size="small", epochs=2, **top) -> ClonerParameters:
    training = {"epochs": epochs, "batch_size": 2, "checkpoint_every": 1}
    return ClonerParameters(
        architecture={"size": size}, loss={"direction_form": "whole_vector"}, training=training, **top
    )


@pytest.fixture
def train(tmp_path, split_table):
    """Train on a cache in float32, with a checkpoint in the test's folder."""

    def run(cache, parameters=None, seed=0, folder="checkpoints", compute=_FLOAT32):
        checkpoint = CheckpointFile(tmp_path / folder / "cloner.checkpoint", "key")
        return train_cloner_on_cache(cache, split_table, parameters or _parameters(), compute, seed, checkpoint)

    return run


def _all_equal(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "timm:test_resnet"])
@pytest.mark.parametrize("form", ["whole_vector", "per_location"])
def test_the_loss_from_the_cache_equals_the_loss_from_the_source(cached_source, images, name, form):
    scales = [0.5, 2.0, 3.0, 0.25]
    source, cache = cached_source(name, scales)
    cloner = build_cloner_for(cache, _parameters().architecture).eval()
    rows = np.array([6, 0, 3, 4])
    with torch.no_grad():
        found = cloner(cache.images(rows))
        live = [activation / scale for activation, scale in zip(source(images[rows]), scales, strict=True)]
        parameters = DiscrepancyParameters(direction_form=form)
        cached = discrepancy_terms(cache.activations(rows), found, parameters)
        uncached = discrepancy_terms(live, cloner(images[rows]), parameters)
    for term, values in cached.items():
        torch.testing.assert_close(values, uncached[term], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", ["small", "equal"])
@pytest.mark.parametrize("name", ["vgg16", "resnet18", "efficientnet_lite0"])
def test_training_changes_the_cloner_and_nothing_of_the_source(cached_source, train, name, size):
    source, cache = cached_source(name)
    before = fingerprint_weights(source)
    cloner, _ = train(cache, _parameters(size, epochs=1))
    assert fingerprint_weights(source) == before  # BatchNorm's statistics are part of it
    untrained, _ = train(cache, _parameters(size, epochs=1).model_copy(update={"training": _no_step()}))
    pairs = zip(cloner.named_parameters(), untrained.parameters(), strict=True)
    # Convolutions only: a bias that a BatchNorm behind it takes out again may stay.
    assert [key for (key, tensor), still in pairs if tensor.dim() == 4 and torch.equal(tensor, still)] == []


def _no_step():
    """A training whose steps are too small to change a float32."""
    return _parameters(epochs=1).training.model_copy(update={"learning_rate": 1e-30})


def test_one_seed_gives_one_cloner_and_another_seed_another(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    cloner, history = train(cache, folder="first")
    torch.rand(3)
    again, history_again = train(cache, folder="second")
    assert _all_equal(cloner.state_dict(), again.state_dict())
    pd.testing.assert_frame_equal(history, history_again, check_exact=True)
    other, _ = train(cache, seed=1, folder="third")
    assert not _all_equal(cloner.state_dict(), other.state_dict())


def test_a_resumed_cloner_equals_an_uninterrupted_one(monkeypatch, cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    parameters = _parameters(epochs=4)
    cloner, history = train(cache, parameters, folder="whole")
    train_killed_at(monkeypatch, 2, train, cache, parameters, folder="cut")
    resumed, resumed_history = train(cache, parameters, folder="cut")
    assert _all_equal(cloner.state_dict(), resumed.state_dict())
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_history_has_the_losses_terms_of_both_splits(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    _, history = train(cache, _parameters(epochs=3))
    pivot = history.pivot(index=["epoch", "split"], columns="term", values="value")
    assert list(pivot.index) == [(epoch, split) for epoch in range(3) for split in ("training", "validation")]
    np.testing.assert_allclose(pivot["total"], 0.5 * pivot["L_val"] + pivot["L_dir"], rtol=1e-5)


def test_training_reads_its_own_rows_only(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    cloner, history = train(cache, folder="clean")
    for array in (cache.pixels, *cache.arrays):  # row 0 is a test image
        spoilt = np.load(array.filename, mmap_mode="r+")
        spoilt[0] = np.nan
        spoilt.flush()
    again, history_again = train(cache, folder="spoilt")
    assert _all_equal(cloner.state_dict(), again.state_dict())
    pd.testing.assert_frame_equal(history, history_again, check_exact=True)


def test_training_lowers_the_loss(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    _, history = train(cache, _parameters(epochs=15))
    total = history[(history["split"] == "training") & (history["term"] == "total")]["value"].to_numpy()
    assert total[-1] < 0.5 * total[0]


def test_only_the_chosen_points_are_trained(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    before = build_cloner_for(cache, _parameters().architecture)
    cloner, _ = train(cache, _parameters(epochs=1, training_points=["stage1", "stage2"]))
    untrained, _ = train(
        cache,
        _parameters(epochs=1, training_points=["stage1", "stage2"]).model_copy(update={"training": _no_step()}),
        folder="none",
    )
    moved = {
        index: any(not torch.equal(*pair) for pair in zip(block.parameters(), still.parameters(), strict=True))
        for index, (block, still) in enumerate(zip(cloner.blocks, untrained.blocks, strict=True))
    }
    last = [index for index, ends in enumerate(before.ends) if ends][1]
    assert moved == {index: index <= last for index in moved}
    with pytest.raises(InputError, match=r"cloner\.training_points: there is no critical point 'stage9'"):
        train(cache, _parameters(training_points=["stage9"]), folder="wrong")


def test_bfloat16_convolutions_leave_parameters_in_float32(cached_source, train):
    _, cache = cached_source("timm:test_resnet")
    cloner, history = train(cache, compute=Compute(torch.device("cpu"), torch.bfloat16))
    assert {parameter.dtype for parameter in cloner.parameters()} == {torch.float32}
    full = train(cache, folder="full")[1]
    assert not np.array_equal(history["value"], full["value"])
    np.testing.assert_allclose(history["value"], full["value"], rtol=0.1)
