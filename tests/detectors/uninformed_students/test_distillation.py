"""What L_k of patches has a teacher foretell."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from kdad.compute import Compute
from kdad.detectors.uninformed_students.distillation import (
    DenseTarget,
    DenseTeacherLoss,
    PatchEmbedding,
    grid_weights,
    pool_to_grid,
)
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import sample_patches
from kdad.detectors.uninformed_students.teacher_losses import compactness_loss, metric_loss
from kdad.features.network import prepare_source
from kdad.images.synthetic.natural_pool import NaturalPool
from kdad.networks.parameters import SourceParameters
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.source import Source
from kdad.networks.weights import load_source

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


def test_an_embedding_is_standardised_over_the_measured_patches():
    pool = NaturalPool()
    patches = pool.cut(pool.sample(96, np.random.default_rng(0)), 17)
    source = prepare_source(SourceParameters(name="timm:test_resnet", weights="random"))
    embedding = PatchEmbedding(source, _FLOAT32, 32).measure(patches)
    found = embedding(patches)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]), atol=1e-3, rtol=0)
    spread = found.std(dim=0, correction=0)
    varies = spread > 0
    assert varies.any()
    torch.testing.assert_close(spread[varies], torch.ones(int(varies.sum())), atol=1e-2, rtol=0)


_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


def test_a_coarse_map_is_interpolated_between_the_middles_of_its_parts():
    # Parts of 8 pixels have their middles at 4 and 12; pixels 0, 4, 8, 12 theirs at 0.5, 4.5, 8.5, 12.5.
    expected = torch.tensor([[1.0, 0.0], [15 / 16, 1 / 16], [7 / 16, 9 / 16], [0.0, 1.0]])
    # Beyond the outer middles there is one neighbour alone: at 0.5 it has all the weight, as at 12.5.
    torch.testing.assert_close(grid_weights(2, 16, 4), expected)


def test_a_fine_map_is_pooled_over_a_grid_step_to_each_side():
    # An activation a pixel, a position at every second: weights 1/2, 1, 1/2 around pixels 0, 2, 4, over their sum.
    expected = torch.tensor([[2, 1, 0, 0, 0], [0, 1, 2, 1, 0], [0, 0, 0, 1, 2]]) / torch.tensor([[3.0], [4.0], [3.0]])
    torch.testing.assert_close(grid_weights(5, 5, 2), expected)


@pytest.mark.parametrize("length", [4, 8, 16, 64])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_what_rises_evenly_across_the_image_keeps_its_value_at_each_pixel(length, stride):
    side = 64
    middles = (torch.arange(length) + 0.5) * side / length
    ramp = middles.expand(1, 1, length, length)
    found = pool_to_grid(ramp, side, stride)[0, 0]
    assert found.shape == (side // stride, side // stride)
    pixels = torch.arange(0, side, stride) + 0.5
    inside = (pixels > 2 * side / length) & (pixels < side - 2 * side / length)
    torch.testing.assert_close(found[0][inside], pixels[inside])
    torch.testing.assert_close(pool_to_grid(ramp.mT, side, stride)[0, 0][inside, 0], pixels[inside])


def _averages(*steps: int) -> Source:
    """A source whose activations are plain means of equal squares, `steps` pixels wide in all."""
    stages = OrderedDict((f"point{index}", nn.AvgPool2d(step)) for index, step in enumerate(steps))
    return Source(stages, mean=(0.0, 0.0, 0.0), sd=(1.0, 1.0, 1.0)).freeze()


def _places_of_response(target: DenseTarget, side: int, row: int, column: int) -> tuple[float, float]:
    """Return the centroid on the grid, in pixels, of how a target answers to one bright pixel."""
    probe = torch.zeros(2, 3, side, side)
    probe[1, :, row, column] = 1.0
    answer = (target(probe)[1] - target(probe)[0]).sum(dim=0)
    positions = torch.arange(answer.shape[0]) * float(target.stride)
    return tuple(float((answer.sum(dim=axis) @ positions) / answer.sum()) for axis in (1, 0))


@pytest.mark.parametrize(("steps", "enlargement"), [((1,), 1.0), ((2,), 1.0), ((2, 2), 2.0), ((4, 2), 2.0)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_bright_pixel_is_seen_where_the_teachers_patches_are_centred_on_it(steps, enlargement, stride):
    side, patch_size = 48, 17
    target = DenseTarget(_averages(*steps), _FLOAT32, enlargement, stride)
    at, off = [], []
    for row in range(20, 28):
        found_row, found_column = _places_of_response(target, side, row, row + 1)
        at.append((row, row + 1))
        off.append((found_row - row, found_column - row - 1))
    # A square of 4 pixels answers for all of them alike: right in the mean over its pixels.
    np.testing.assert_allclose(np.mean(off, axis=0), 0, atol=0.02)
    # The teacher's own grid, by the same probe: only descriptors of patches that hold the pixel change.
    torch.manual_seed(0)
    teacher = PatchDescriptor(patch_size, 4, 0.05)
    probe = torch.zeros(2, 3, side, side)
    probe[1, :, at[0][0], at[0][1]] = 1.0
    with torch.no_grad():
        changed = (teacher.dense(probe, stride).diff(dim=0)[0].abs().sum(dim=0) > 0).nonzero() * stride
    reach = patch_size // 2
    for axis in (0, 1):
        assert changed[:, axis].min() >= at[0][axis] - reach
        assert changed[:, axis].max() <= at[0][axis] + reach
        middle = (changed[:, axis].min() + changed[:, axis].max()) / 2
        assert abs(float(middle) - at[0][axis]) <= stride / 2


@pytest.mark.parametrize(("point", "nearer_than"), [("block4", 1.0), ("block10", 4.0)])
def test_the_published_source_looks_at_the_middle_of_its_parts(point, nearer_than):
    # Of 8 and 16 pixels; the padding of its strides of 2 alone would say 3.5 and 7.5 pixels beyond the middle.
    source = load_source("efficientnet_lite0", "pretrained").select([point])
    images = torch.rand(6, 3, 256, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (activations,) = source(images)
    middle, step = activations.shape[-1] // 2, 256 / activations.shape[-1]
    (gradient,) = torch.autograd.grad(activations[:, :, middle, middle].square().sum(), images)
    seen = gradient.square().sum(dim=(0, 1))
    pixels = torch.arange(256.0) + 0.5
    for axis in (0, 1):
        looks_at = float(seen.sum(dim=1 - axis) @ pixels / seen.sum())
        assert looks_at == pytest.approx((middle + 0.5) * step, abs=nearer_than)


def test_channels_of_all_critical_points_are_standardised_over_what_is_measured():
    pool = NaturalPool()
    crops = pool.cut(pool.sample(20, np.random.default_rng(0), zoom=(1.0, 4.0)), 32)
    source = load_source("timm:test_resnet", "random").select(["stage1", "stage2"])
    target = DenseTarget(source, _FLOAT32, 1.5, 4).measure(crops)
    found = target(crops)
    channels = sum(activations.shape[1] for activations in source(crops))
    assert found.shape == (20, channels, 8, 8)
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-4, rtol=0)
    spread = found.std(dim=(0, 2, 3), correction=0)
    assert set(spread.round(decimals=3).tolist()) <= {0.0, 1.0}
    assert (spread > 0.5).any()


def _loss(**weights: float) -> DenseTeacherLoss:
    training = {"epochs": 2, "batch_size": 3}
    dense = {"crop_size": 24, "crops_per_epoch": 3, "validation_crops": 2, "training": training}
    shape = {"depth": 4, "width": 0.05, "margin": 3.0}
    parameters = TeacherParameters(distillation="dense", dense=dense, training=training, **shape, **weights)
    pool = NaturalPool()
    torch.manual_seed(0)
    networks = nn.ModuleDict({"descriptor": PatchDescriptor(17, 4, 0.05)})
    places = sample_patches(pool, parameters, [17])
    return DenseTeacherLoss(networks, 24, pool, places, parameters, None, _FLOAT32)


def test_the_other_terms_are_those_of_all_positions():
    loss = _loss(knowledge_weight=0.0, metric_weight=0.5, compactness_weight=2.0)
    loss.begin(1)
    rows = np.array([2, 0])
    found = loss(rows)
    places = loss.places[(loss.places["use"] == "training") & (loss.places["epoch"] == 1)].iloc[rows]
    cut = loss.pool.cut_triplets(places, 24)
    described = [
        loss.networks["descriptor"].dense(crops, 4) for crops in (cut.anchors, cut.positives, cut.negatives)
    ]  # (2, 4, 6, 6) each
    for crop in range(2):
        each = [
            metric_loss(*(values[crop : crop + 1, :, row, column] for values in described), 3.0).item()
            for row in range(6)
            for column in range(6)
        ]
        assert found["metric"][crop].item() == pytest.approx(np.mean(each), rel=1e-4)
    everywhere = described[0].permute(0, 2, 3, 1).reshape(72, 4)
    torch.testing.assert_close(found["compactness"], compactness_loss(everywhere, "squared").expand(2))
    torch.testing.assert_close(found["total"], 0.5 * found["metric"] + 2 * found["compactness"])


def test_validation_is_on_fixed_crops():
    loss = _loss(knowledge_weight=0.0)
    loss.networks.eval()
    values = []
    for epoch in range(2):
        loss.begin(epoch)
        values.append(loss(np.arange(2))["compactness"][0].item())
    assert values[0] == values[1]
    loss.networks.train()
    assert loss(np.arange(2))["compactness"][0].item() != values[0]
