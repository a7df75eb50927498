"""L_k, L_m and L_c by hand, what descent on L_c does, and what L_k has a teacher foretell."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.teacher import (
    EMBEDDING,
    TRAINING,
    VALIDATION,
    TeacherLoss,
    part_of,
    sample_patches,
)
from kdad.detectors.uninformed_students.teacher_losses import (
    KnowledgeTarget,
    compactness_loss,
    grid_weights,
    knowledge_loss,
    metric_loss,
    pool_to_grid,
)
from kdad.errors import InputError
from kdad.features.network import prepare_source
from kdad.images.natural_pool import NaturalPool
from kdad.networks.parameters import SourceParameters
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.source import Source
from kdad.networks.weights import load_source

COUNTS = {"distillation": "patches", "patches_per_epoch": 6, "validation_patches": 4}
CROPS = {
    "distillation": "dense",
    "dense": {
        "crop_size": 40,
        "crops_per_epoch": 6,
        "validation_crops": 4,
        "zoom": [1, 2],
        "training": {"epochs": 3, "batch_size": 4},
    },
}


@pytest.fixture(scope="module")
def pool() -> NaturalPool:
    return NaturalPool()


def _parameters(**top) -> TeacherParameters:
    return TeacherParameters(**(COUNTS | {"training": {"epochs": 3, "batch_size": 4}} | top))


def test_every_epoch_has_patches_of_its_own_and_validation_has_fixed_ones(pool):
    table = sample_patches(pool, _parameters(), [17, 33])
    counts = table.groupby(["receptive_field", "use", "epoch"], observed=True).size().to_dict()
    expected = {(EMBEDDING, 0): 1024, (VALIDATION, 0): 4, **{(TRAINING, epoch): 6 for epoch in range(3)}}
    assert counts == {(field, *part): count for field in (17, 33) for part, count in expected.items()}
    own = table[table["receptive_field"] == 17]
    places = [part_of(own, TRAINING, epoch)[["image", "side", "top", "left"]].to_numpy().tolist() for epoch in range(3)]
    assert len({str(each) for each in places}) == 3


def test_a_seed_gives_one_table_whatever_other_fields_and_epochs_are_asked_for(pool):
    first = sample_patches(pool, _parameters(), [17])
    more = sample_patches(pool, _parameters(training={"epochs": 5, "batch_size": 4}), [33, 17])
    again = more[(more["receptive_field"] == 17) & (more["epoch"] < 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(sample_patches(pool, _parameters(seed=1), [17]))


def test_places_lie_inside_their_images_at_the_published_zooms(pool):
    table = sample_patches(pool, _parameters(patches_per_epoch=300, metric_weight=1.0), [17])
    table = table[table["use"] == TRAINING]
    for prefix in ("", "other_"):
        size = pool.sizes[table[f"{prefix}image"].astype(int)]
        assert (table[f"{prefix}top"] >= 0).all()
        assert (table[f"{prefix}top"] + table[f"{prefix}side"] <= size[:, 0]).all()
        assert (table[f"{prefix}left"] + table[f"{prefix}side"] <= size[:, 1]).all()
        zoom = size.min(axis=1) / table[f"{prefix}side"]
        assert zoom.between(3.8, 17).all()  # 4 to 16, and whole pixels
    assert (table["image"] != table["other_image"]).all()
    moved = np.maximum((table["moved_top"] - table["top"]).abs(), (table["moved_left"] - table["left"]).abs())
    assert (moved <= table["side"] * 4 / 17 + 0.5).all()
    assert (moved > 0).any()


def test_crops_are_as_many_and_zoomed_as_asked_and_positives_move_by_a_quarter_of_a_patch(pool):
    parameters = _parameters(**CROPS, metric_weight=1.0)
    table = sample_patches(pool, parameters, [17])
    counts = table.groupby(["use", "epoch"], observed=True).size().to_dict()
    assert counts == {(EMBEDDING, 0): 64, (VALIDATION, 0): 4, **{(TRAINING, epoch): 6 for epoch in range(3)}}
    zoom = pool.sizes[table["image"]].min(axis=1) / table["side"]
    assert zoom.between(0.99, 2.01).all()  # whole pixels
    trained = table[table["use"] == TRAINING]
    moved = np.maximum((trained["moved_top"] - trained["top"]).abs(), (trained["moved_left"] - trained["left"]).abs())
    assert (moved <= trained["side"] * 4 / 40 + 0.5).all()  # 4 of the crop's 40 pixels
    assert (moved > 0).any()


@pytest.mark.parametrize("fields", [[65], [17, 65]])
def test_crops_smaller_than_a_receptive_field_are_refused(pool, fields):
    message = r"teacher\.dense\.crop_size is 40, which is less than the receptive field 65; raise it, or leave 65 out"
    with pytest.raises(InputError, match=message):
        sample_patches(pool, _parameters(**CROPS), fields)


def test_without_a_source_nothing_is_sampled_for_its_embedding(pool):
    assert EMBEDDING not in set(
        sample_patches(pool, _parameters(knowledge_weight=0.0, compactness_weight=1.0), [17])["use"]
    )


def test_a_table_read_from_a_file_gives_the_same_patches(pool, tmp_path):
    table = sample_patches(pool, _parameters(metric_weight=1.0), [17])
    table.to_parquet(tmp_path / "patches.parquet")
    read = part_of(pd.read_parquet(tmp_path / "patches.parquet"), TRAINING, 2)
    first, second = (pool.cut_triplets(rows, 17) for rows in (part_of(table, TRAINING, 2), read))
    assert all(map(torch.equal, first, second))


_FLOAT32 = Compute(torch.device("cpu"), torch.float32)
_FORMS = pytest.mark.parametrize("form", ["signed", "squared"])


def test_knowledge_loss_is_the_squared_distance_of_each_patch():
    decoded = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    embedding = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # (0, 2, 3): 0 + 4 + 9 = 13; the second is met exactly
    assert knowledge_loss(decoded, embedding).tolist() == [13.0, 0.0]


def test_dense_knowledge_loss_is_the_mean_of_squared_distances_over_the_positions_of_a_crop():
    decoded, target = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    decoded[0, :, 0, 0] = torch.tensor([0.0, 2.0, 3.0])  # 4 + 9 = 13 at one position of two, 1 at the other
    target[0, :, 0, 1] = torch.tensor([0.0, 1.0, 0.0])
    assert knowledge_loss(decoded, target).tolist() == [7.0, 0.0]


def test_dense_knowledge_loss_of_one_position_is_that_of_a_patch():
    decoded, target = torch.rand(4, 5), torch.rand(4, 5)
    dense = knowledge_loss(decoded[..., None, None], target[..., None, None])
    torch.testing.assert_close(dense, knowledge_loss(decoded, target))


def _triplet(anchor, positive, negative, margin=10.0) -> float:
    tensors = (torch.tensor([value], dtype=torch.float32) for value in (anchor, positive, negative))
    return metric_loss(*tensors, margin).item()


@pytest.mark.parametrize(
    ("negative", "expected"),
    [
        # d+ = 1. From (0, 2): d-(anchor) = 4 < d-(positive) = 1 + 4 = 5, so 10 + 1 - 4
        ((0, 2), 7.0),
        # From (3, 0): d-(anchor) = 9 > d-(positive) = 4, so 10 + 1 - 4
        ((3, 0), 7.0),
        # From (3, 2): d-(anchor) = 13 > d-(positive) = 8, so 10 + 1 - 8
        ((3, 2), 3.0),
        # From (-3, 1): d-(anchor) = 10 < d-(positive) = 17, so 10 + 1 - 10
        ((-3, 1), 1.0),
        # From (0, 4): d-(anchor) = 16: 10 + 1 - 16 is negative
        ((0, 4), 0.0),
    ],
)
def test_metric_loss_takes_the_nearer_negative_and_is_never_negative(negative, expected):
    assert _triplet((0, 0), (1, 0), negative) == expected


def test_metric_loss_has_the_margin_asked_for():
    assert _triplet((0, 0), (1, 0), (0, 2), margin=3.0) == 0.0
    assert _triplet((0, 0), (1, 0), (0, 2), margin=3.5) == 0.5


def test_metric_loss_has_a_value_for_each_triplet():
    anchor = torch.zeros(2, 2)
    negative = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    assert metric_loss(anchor, torch.tensor([[1.0, 0.0]] * 2), negative, 10.0).tolist() == [7.0, 0.0]


# Centred: (-1, 0, 1), (-1, 1, 0), (1, 0, -1); each of squared length 2.
_THREE = torch.tensor([[0.0, 2.0, 5.0], [1.0, 4.0, 4.0], [2.0, 3.0, 3.0]])


def test_compactness_of_two_channels_by_hand():
    # c_01 = (1 + 0 + 0) / 2, counted as c_01 and c_10; c_02 = -1
    for form, expected in (("signed", 1.0), ("squared", 0.5)):
        assert compactness_loss(_THREE[:, :2], form).item() == pytest.approx(expected, abs=1e-6)
    assert compactness_loss(_THREE[:, [0, 2]], "signed").item() == pytest.approx(-2.0, abs=1e-6)
    assert compactness_loss(_THREE[:, [0, 2]], "squared").item() == pytest.approx(2.0, abs=1e-6)


def test_compactness_of_three_channels_by_hand():
    # c_01 = 1/2, c_02 = -1, c_12 = -1/2
    assert compactness_loss(_THREE, "signed").item() == pytest.approx(2 * (0.5 - 1 - 0.5), abs=1e-6)
    assert compactness_loss(_THREE, "squared").item() == pytest.approx(2 * (0.25 + 1 + 0.25), abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(2, 6), st.floats(0.1, 100), st.floats(-10, 10))
def test_compactness_sums_the_correlations_of_numpy(seed, batch, channels, scale, shift):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(channels, channels))
    values = scale * generator.normal(size=(batch, channels)) @ mixing + shift
    correlations = np.corrcoef(values, rowvar=False)
    off_diagonal = correlations[~np.eye(channels, dtype=bool)]
    found = torch.from_numpy(values)
    assert compactness_loss(found, "signed").item() == pytest.approx(off_diagonal.sum(), abs=1e-6)
    assert compactness_loss(found, "squared").item() == pytest.approx(np.square(off_diagonal).sum(), abs=1e-6)


def _redundant(batch: int = 64, channels: int = 5) -> torch.Tensor:
    """Channels that are nearly one: a common signal and a little of their own."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(batch, 1, generator=generator, dtype=torch.float64)
    return common + 0.3 * torch.randn(batch, channels, generator=generator, dtype=torch.float64)


@_FORMS
def test_whitened_channels_have_no_compactness_loss(form):
    values = _redundant()
    centred = (values - values.mean(dim=0)).numpy()
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred)
    assert compactness_loss(values, form) > 0.8 * 5 * 4
    whitened = torch.from_numpy(centred @ vectors / np.sqrt(eigenvalues))
    assert abs(compactness_loss(whitened, form)) < 1e-9


def test_descent_on_the_squared_form_decorrelates():
    values = _redundant().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        compactness_loss(values, "squared").backward()
        optimiser.step()
    correlations = np.corrcoef(values.detach().numpy(), rowvar=False)
    assert np.abs(correlations[~np.eye(5, dtype=bool)]).max() < 0.1


def test_opposed_channels_lower_the_signed_form_only():
    opposed = torch.cat([_redundant(channels=1), -_redundant(channels=1)], dim=1)
    assert compactness_loss(opposed, "signed").item() == pytest.approx(-2)
    assert compactness_loss(opposed, "squared").item() == pytest.approx(2)


@_FORMS
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.0])
def test_a_constant_channel_correlates_with_none(form, constant):
    values = _redundant(channels=3).float()
    expected = compactness_loss(values[:, [0, 2]], form).item()
    values[:, 1] = constant
    values.requires_grad_()
    found = compactness_loss(values, form)
    found.backward()
    assert found.item() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(values.grad).all()


@_FORMS
def test_channels_that_are_all_constant_have_no_compactness_loss(form):
    values = torch.zeros(4, 3, requires_grad=True)
    found = compactness_loss(values, form)
    found.backward()
    assert found.item() == 0
    assert torch.isfinite(values.grad).all()


def test_an_embedding_is_standardised_over_the_measured_patches():
    pool = NaturalPool()
    patches = pool.cut(pool.sample(96, np.random.default_rng(0)), 17)
    source = prepare_source(SourceParameters(name="timm:test_resnet", weights="random"))
    embedding = KnowledgeTarget(source, _FLOAT32, TeacherParameters(source_size=32)).measure(patches)
    found = embedding(patches)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]), atol=1e-3, rtol=0)
    spread = found.std(dim=0, correction=0)
    varies = spread > 0
    assert varies.any()
    torch.testing.assert_close(spread[varies], torch.ones(int(varies.sum())), atol=1e-2, rtol=0)


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


def _dense_target(source: Source, enlargement: float, stride: int) -> KnowledgeTarget:
    dense = {"enlargement": enlargement, "stride": stride}
    return KnowledgeTarget(source, _FLOAT32, TeacherParameters(distillation="dense", dense=dense))


def _averages(*steps: int) -> Source:
    """A source whose activations are plain means of equal squares, `steps` pixels wide in all."""
    stages = OrderedDict((f"point{index}", nn.AvgPool2d(step)) for index, step in enumerate(steps))
    return Source(stages, mean=(0.0, 0.0, 0.0), sd=(1.0, 1.0, 1.0)).freeze()


def _places_of_response(target: KnowledgeTarget, side: int, row: int, column: int) -> tuple[float, float]:
    """Return the centroid on the grid, in pixels, of how a target answers to one bright pixel."""
    probe = torch.zeros(2, 3, side, side)
    probe[1, :, row, column] = 1.0
    answer = (target(probe)[1] - target(probe)[0]).sum(dim=0)
    positions = torch.arange(answer.shape[0]) * float(target.parameters.dense.stride)
    return tuple(float((answer.sum(dim=axis) @ positions) / answer.sum()) for axis in (1, 0))


@pytest.mark.parametrize(("steps", "enlargement"), [((1,), 1.0), ((2,), 1.0), ((2, 2), 2.0), ((4, 2), 2.0)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_bright_pixel_is_seen_where_the_teachers_patches_are_centred_on_it(steps, enlargement, stride):
    side, patch_size = 48, 17
    target = _dense_target(_averages(*steps), enlargement, stride)
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
    target = _dense_target(source, 1.5, 4).measure(crops)
    found = target(crops)
    channels = sum(activations.shape[1] for activations in source(crops))
    assert found.shape == (20, channels, 8, 8)
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-4, rtol=0)
    spread = found.std(dim=(0, 2, 3), correction=0)
    assert set(spread.round(decimals=3).tolist()) <= {0.0, 1.0}
    assert (spread > 0.5).any()


def _loss(**weights: float) -> TeacherLoss:
    training = {"epochs": 2, "batch_size": 3}
    dense = {"crop_size": 24, "crops_per_epoch": 3, "validation_crops": 2, "training": training}
    shape = {"depth": 4, "width": 0.05, "margin": 3.0}
    parameters = TeacherParameters(distillation="dense", dense=dense, training=training, **shape, **weights)
    pool = NaturalPool()
    torch.manual_seed(0)
    networks = nn.ModuleDict({"descriptor": PatchDescriptor(17, 4, 0.05)})
    places = sample_patches(pool, parameters, [17])
    return TeacherLoss(networks, 24, pool, places, parameters, None, _FLOAT32)


def test_the_other_terms_are_those_of_all_positions():
    loss = _loss(knowledge_weight=0.0, metric_weight=0.5, compactness_weight=2.0)
    loss.begin(1)
    rows = np.array([2, 0])
    found = loss(rows)
    places = loss.places[(loss.places["use"] == "training") & (loss.places["epoch"] == 1)].iloc[rows]
    cut = loss.pool.cut_triplets(places, 24)
    described = [loss.networks["descriptor"].dense(crops, 4) for crops in cut]  # (2, 4, 6, 6) each
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
