"""The cloner's architecture: weights, layers and shapes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.mkd.cloner import Cloner, _block, build_cloner, small_widths, train_cloner
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, ClonerParameters, DiscrepancyParameters
from kdad.errors import InputError
from kdad.networks.source import CriticalPoint, choose_points
from kdad.networks.weights import fingerprint_weights
from kdad.training.loop import CheckpointFile

_PLAIN = ([0.0] * 3, [1.0] * 3)
_SIZES = [(32, 32), (64, 96), (33, 33), (65, 65), (47, 70), (101, 67)]


def _build(size_name, source_name, source, size, normalisation=_PLAIN, **parameters):
    architecture = ArchitectureParameters(size=size_name, **parameters)
    return build_cloner(architecture, source_name, source.describe(size), size, normalisation)


def _convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def _tensors(network):
    return [*network.parameters(), *network.buffers()]


@pytest.mark.parametrize(("size_name", "expected"), [("small", 343_728), ("equal", 14_710_464)])
def test_vgg16_cloners_have_the_published_number_of_convolution_weights(vgg16, size_name, expected):
    cloner = _build(size_name, "vgg16", vgg16, (32, 32))
    assert sum(layer.weight.numel() for layer in _convolutions(cloner)) == expected


def test_small_widths_are_the_published_ones(vgg16):
    expected = [[16, 16], [16, 128], [16, 16, 256], [16, 16, 512], [16, 16, 512]]
    assert small_widths(vgg16.describe((128, 128)), (128, 128)) == expected
    assert small_widths(vgg16.describe((32, 32)), (32, 32), hidden=4)[2] == [4, 4, 256]


@pytest.mark.sample(20)
@pytest.mark.parametrize("size", _SIZES, ids=str)
@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_cloner_has_the_sources_shapes_at_every_critical_point(source_name, source, size_name, size):
    step = 16 if source_name == "timm:test_vit" else 1  # a transformer's patch
    size = tuple(side // step * step for side in size)
    images = torch.rand(1, 3, *size)
    cloner = _build(size_name, source_name, source, size).eval()
    with torch.no_grad():
        found = [tuple(activation.shape) for activation in cloner(images)]
        assert found == [tuple(activation.shape) for activation in source(images)]
    assert len(found) == 4


def test_source_and_cloner_share_no_storage(source_name, source):
    own = {tensor.untyped_storage().data_ptr() for tensor in _tensors(source)}
    for size_name in ("small", "equal"):
        cloner = _build(size_name, source_name, source, (32, 32))
        assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in _tensors(cloner))
        assert all(parameter.requires_grad for parameter in cloner.parameters())


@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_blocks_are_convolutions_with_batch_norm_and_relu_but_the_last_has_relu_only(vgg16, size_name):
    cloner = _build(size_name, "vgg16", vgg16, (32, 32))
    assert all(layer.bias is None and layer.kernel_size == (3, 3) for layer in _convolutions(cloner))
    for block in cloner.blocks:
        count = len(_convolutions(block))
        inner = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * (count - 1)
        assert [type(layer) for layer in block] == [*inner, nn.Conv2d, nn.MaxPool2d, nn.ReLU]


def test_no_relu_ends_a_block_whose_target_can_be_negative():
    points = [CriticalPoint("low", 8, 16, 16, signed=True), CriticalPoint("high", 8, 8, 8, signed=False)]
    cloner = Cloner([[4, 8], [4, 8]], points, (32, 32)).eval()
    assert [type(layer) for layer in cloner.blocks[0]][-2:] == [nn.Conv2d, nn.MaxPool2d]
    with torch.no_grad():
        low, high = cloner(torch.rand(2, 3, 32, 32))
    assert low.min() < 0
    assert high.min() >= 0


def test_convolutions_are_xavier_initialised(vgg16):
    for layer in _convolutions(_build("small", "vgg16", vgg16, (32, 32))):
        # Glorot and Bengio 2010, eq. 16: uniform up to sqrt(6 / (fan_in + fan_out)), fans counted over the kernel
        bound = (6 / (9 * (layer.in_channels + layer.out_channels))) ** 0.5
        largest = layer.weight.abs().max().item()
        assert 0.9 * bound < largest <= bound


def test_rounding_may_change_from_point_to_point():
    # 33 -> 17 -> 9 up (padded strides), then 9 -> 4 -> 2 -> 1 down (pools), as in a DenseNet
    sides = {"low": 9, "middle": 4, "high": 2, "top": 1}
    points = [CriticalPoint(name, 8, side, side, signed=False) for name, side in sides.items()]
    cloner = Cloner(small_widths(points, (33, 33), 4), points, (33, 33)).eval()
    assert [activation.shape[-1] for activation in cloner(torch.rand(1, 3, 33, 33))] == [9, 4, 2, 1]


def test_points_of_one_resolution_have_no_pool_between_them():
    points = [CriticalPoint("low", 8, 16, 16, signed=False), CriticalPoint("high", 12, 16, 16, signed=False)]
    cloner = Cloner([[4, 8], [4, 12]], points, (32, 32)).eval()
    assert [tuple(activation.shape) for activation in cloner(torch.rand(1, 3, 32, 32))] == [
        (1, 8, 16, 16),
        (1, 12, 16, 16),
    ]


def test_images_are_resampled_where_halving_them_does_not_reach_a_transformers_grid():
    # 224 and 126 pixels in patches of 14 are 16 and 9 patches; of 16 pixels each they are 256 and 144.
    points = [CriticalPoint(f"block{index}", 8, 16, 9, signed=True) for index in range(2)]
    cloner = Cloner(small_widths(points, (224, 126), 4), points, (224, 126)).eval()
    images = torch.rand(1, 3, 224, 126)
    resampled = nn.functional.interpolate(images, (256, 144), mode="bilinear")
    with torch.no_grad():
        found = cloner(images)
        assert [tuple(activation.shape) for activation in found] == [(1, 8, 16, 9)] * 2
        assert all(torch.equal(*pair) for pair in zip(found, cloner(resampled), strict=True))
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in cloner.modules()) == 4


def test_a_resolution_that_halving_cannot_reach_is_an_input_error():
    points = [CriticalPoint(name, 8, side, side, signed=False) for name, side in {"low": 16, "high": 6}.items()]
    with pytest.raises(InputError, match=r"'high' is 6 x 6 for images of 64 x 64.*multiple of 32"):
        small_widths(points, (64, 64))


def test_fewer_critical_points_give_a_shorter_cloner():
    points = [CriticalPoint("pool2", 128, 8, 8, signed=False), CriticalPoint("pool3", 256, 4, 4, signed=False)]
    cloner = build_cloner(ArchitectureParameters(size="equal"), "vgg16", points, (32, 32), _PLAIN)
    assert [layer.out_channels for layer in _convolutions(cloner)] == [64, 64, 128, 128, 256, 256, 256]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([[16, 128]], "has 1 blocks; these critical points need 2"),
        ([[16], [16, 64]], r"block 2 is \[16, 64\]; it needs a last width of 128 \('pool2'\)"),
        ([[], [16, 128]], r"block 1 is \[\]; it needs at least one width"),
    ],
)
def test_widths_that_do_not_fit_are_an_error(widths, message):
    with pytest.raises(InputError, match=message):
        Cloner(widths, [CriticalPoint("pool2", 128, 8, 8, signed=False)], (32, 32))


@pytest.mark.parametrize("size_name", ["small", "equal"])
def test_images_are_normalised_as_for_the_source(source_of, size_name):
    name = "timm:test_resnet"
    mean, sd = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    cloner = _build(size_name, name, source_of(name), (32, 32), (mean, sd)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = cloner(images)
        cloner.mean.zero_()
        cloner.sd.fill_(1)
        by_hand = cloner((images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(sd).view(1, 3, 1, 1))
        untouched = cloner(images)
    for activation, expected, without in zip(found, by_hand, untouched, strict=True):
        torch.testing.assert_close(activation, expected)
        assert not torch.equal(activation, without)


def test_a_relu_after_the_pool_gives_what_one_before_it_gives_and_its_gradients():
    block = _block(3, [4, 4], pools=True, ceil=False, signed=False)
    published = nn.Sequential(*block[:4], block[5], block[4])
    assert isinstance(published[4], nn.ReLU)
    images = torch.randn(2, 3, 8, 8)
    gradients = []
    for ordered in (block, published):
        given = images.clone().requires_grad_()
        shown = ordered(given)
        shown.square().sum().backward()
        gradients.append((shown.detach(), given.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


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
    monkeypatch.setattr("kdad.detectors.mkd.cloner.train", lambda task, *_: losses.append(task.loss))
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
