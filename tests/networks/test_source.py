"""What a source promises, whichever network it is."""

from collections import OrderedDict

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchvision.models import resnet18

from kdad.errors import InputError
from kdad.networks.source import Source, build_source, choose_points
from kdad.networks.weights import load_source

_POINTS = ("pool2", "pool3", "pool4", "pool5")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("all", [0, 1, 2, 3]),
        ("first 1", [0]),
        ("first 3", [0, 1, 2]),
        ("last 3", [1, 2, 3]),
        ("last 4", [0, 1, 2, 3]),
        (["pool5", "pool2"], [0, 3]),
        (["pool3", "pool3"], [1]),
        ("pool5 pool2", [0, 3]),
        ("pool3", [1]),
    ],
)
def test_choices_are_positions_in_the_networks_order(choice, expected):
    assert choose_points(choice, _POINTS, "field") == expected


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("last 5", r"field is 'last 5', but there are 4 critical points: pool2, pool3, pool4, pool5"),
        ("last 0", "field is 'last 0'; give 'all', 'first N', 'last N' or a list of names of: "),
        ("pool2 poll4", "field is 'pool2 poll4'; give 'all'"),
        ("first three", "field is 'first three'; give 'all'"),
        ("first 3 ", "give 'all'"),
        ([], "field is empty; choose from: pool2, pool3, pool4, pool5"),
        (["pool3", "poll4"], "field: there is no critical point 'poll4'; did you mean 'pool4'"),
    ],
)
def test_other_choices_are_an_input_error_that_names_the_field(choice, message):
    with pytest.raises(InputError, match=message):
        choose_points(choice, _POINTS, "field")


class _Raising(nn.Module):
    def forward(self, _):
        raise AssertionError("a stage behind the last critical point was run")


@pytest.fixture
def pools() -> Source:
    """Three stages, each a 2 x 2 maximum."""
    return Source(OrderedDict((name, nn.MaxPool2d(2)) for name in ("low", "middle", "high")))


def test_critical_points_are_kept_in_the_networks_order(pools):
    assert pools.select(["high", "low"]).critical_points == ("low", "high")
    assert [activation.shape[-1] for activation in pools(torch.rand(1, 3, 16, 16))] == [8, 2]
    assert pools.select(None).critical_points == ("low", "middle", "high")


def test_unknown_critical_points_offer_the_nearest(pools):
    with pytest.raises(InputError, match=r"source\.critical_points: the source has no 'midle'; did you mean 'middle'"):
        pools.select(["low", "midle"])
    with pytest.raises(InputError, match=r"source\.critical_points is empty; choose from: low, middle, high"):
        pools.select([])


def test_stages_behind_the_last_critical_point_are_not_run():
    source = Source(OrderedDict(low=nn.MaxPool2d(2), high=_Raising())).select(["low"])
    assert len(source(torch.rand(1, 3, 8, 8))) == 1


def test_images_are_normalised_inside(pools):
    pools.select(["low"]).normalise_with([0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    found = pools(torch.ones(1, 3, 2, 2))[0].flatten()
    # (1 - 0.1) / 0.5, (1 - 0.2) / 0.25, (1 - 0.3) / 2
    assert found.tolist() == pytest.approx([1.8, 3.2, 0.35])


def test_a_frozen_source_does_not_learn(source):
    assert not source.training
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert not any(activation.requires_grad for activation in source(torch.rand(1, 3, 32, 32)))


def test_a_frozen_source_passes_gradients_to_the_image(source):
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(activation.float().sum() for activation in source(images)).backward()
    assert images.grad.abs().sum() > 0


def test_describe_measures_shapes_and_leaves_no_trace(source):
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    points = source.describe((64, 96))
    with torch.no_grad():
        found = source(torch.rand(1, 3, 64, 96))
    assert [(p.channels, p.height, p.width) for p in points] == [tuple(activation.shape[1:]) for activation in found]
    assert tuple(point.name for point in points) == source.critical_points
    assert not source.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.state_dict().items())


def test_describe_restores_training_mode():
    source = Source(OrderedDict(low=nn.Sequential(nn.BatchNorm2d(3)))).train()
    source.describe((8, 8))
    assert source.training
    assert source.stages["low"][0].num_batches_tracked.item() == 0


@pytest.mark.parametrize(("name", "signed"), [("vgg16", False), ("resnet18", False), ("efficientnet_lite0", True)])
def test_describe_says_whether_activations_can_be_negative(source_of, name, signed):
    assert {point.signed for point in source_of(name).describe((32, 32))} == {signed}


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (1, 1)])
def test_images_too_small_for_the_deepest_point_are_an_input_error(vgg16, size):
    message = f"dataset.image_size {size[0]} x {size[1]} is too small for the critical point 'pool5'"
    with pytest.raises(InputError, match=message):
        vgg16.describe(size)


_IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _normalised(images, mean, sd):
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(sd).view(1, 3, 1, 1)


def _outputs_of(network, layers, images):
    """Run a whole network and catch what some of its layers put out."""
    caught = []
    handles = [layer.register_forward_hook(lambda *call: caught.append(call[-1])) for layer in layers]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return caught


@pytest.fixture
def images() -> torch.Tensor:
    """Two non-square images."""
    return torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_vgg16_stages_are_its_layers_up_to_each_pool(vgg16, images):
    x, pools = _normalised(images, *_IMAGENET), []
    with torch.no_grad():
        for stage in vgg16.stages.values():
            for layer in stage:
                x = layer(x)
                pools += [x] if isinstance(layer, nn.MaxPool2d) else []
        found = vgg16(images)
    assert vgg16.critical_points == ("pool2", "pool3", "pool4", "pool5")
    assert sum(len(stage) for stage in vgg16.stages.values()) == 31  # all of torchvision's features
    for activation, expected in zip(found, pools[1:], strict=True):
        assert torch.equal(activation, expected)


def test_resnet18_stages_agree_with_torchvision(tmp_path, images):
    whole = resnet18(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    source = load_source("resnet18", str(tmp_path / "resnet18.pth"))
    layers = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == ("layer1", "layer2", "layer3", "layer4")
    for activation, expected in zip(found, _outputs_of(whole, layers, _normalised(images, *_IMAGENET)), strict=True):
        torch.testing.assert_close(activation, expected)


@pytest.mark.parametrize(
    ("size", "blocks", "channels"),
    [
        (0, (2, 4, 10, 15), (24, 40, 112, 320)),
        (1, (3, 6, 14, 20), (24, 40, 112, 320)),
        (2, (3, 6, 14, 20), (24, 48, 120, 352)),
    ],
)
def test_efficientnet_lite_stages_agree_with_their_package(tmp_path, images, size, blocks, channels):
    whole = EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None).eval()
    torch.save(whole.state_dict(), tmp_path / "lite.pth")
    source = load_source(f"efficientnet_lite{size}", str(tmp_path / "lite.pth"))
    layers = [whole._blocks[index] for index in blocks]
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == tuple(f"block{index}" for index in blocks)
    sides = [(16, 12), (8, 6), (4, 3), (2, 2)]
    assert [tuple(activation.shape[1:]) for activation in found] == [
        (count, *side) for count, side in zip(channels, sides, strict=True)
    ]
    for activation, expected in zip(found, _outputs_of(whole, layers, 2 * images - 1), strict=True):
        torch.testing.assert_close(activation, expected)


def test_timm_stages_agree_with_timm(tmp_path, images):
    whole = timm.create_model("test_resnet", pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet.pth")
    source = load_source("timm:test_resnet", str(tmp_path / "resnet.pth"))
    layers = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
    config = whole.default_cfg
    with torch.no_grad():
        found = source(images)
    assert source.critical_points == ("stage1", "stage2", "stage3", "stage4")
    expected_maps = _outputs_of(whole, layers, _normalised(images, config["mean"], config["std"]))
    for activation, expected in zip(found, expected_maps, strict=True):
        torch.testing.assert_close(activation, expected)


def test_timm_critical_points_can_be_chosen(images):
    source = build_source("timm:test_resnet").eval()
    everything = dict(zip(source.critical_points, source(images), strict=True))
    source.select(["stage3", "stage1"])
    assert source.critical_points == ("stage1", "stage3")
    for name, activation in zip(source.critical_points, source(images), strict=True):
        assert torch.equal(activation, everything[name])


#: A class token; a register; two class tokens; rotary positions and registers; positions of patches alone, 14 x 14.
_TRANSFORMERS = [
    *("test_vit", "test_vit3", "deit_tiny_distilled_patch16_224", "vit_tiny_patch16_dinov3_qkvb"),
    "vit_small_patch14_reg4_dinov2",
]


@pytest.mark.parametrize("name", _TRANSFORMERS)
def test_a_transformers_blocks_are_maps_of_its_patches_at_any_size(name):
    source = load_source(f"timm:{name}", "random")
    height, width = (4 * side for side in source.patch)
    images = torch.rand(2, 3, height, width // 2, generator=torch.Generator().manual_seed(1))
    state, grid = source.pyramid.state_dict(), (4, 2)
    if "pos_embed" in state:
        _make_positions_large(source)
        # The positions of this size, by hand; those of class and register tokens, if any, stay.
        positions, (rows, columns) = state["pos_embed"], source.pyramid.patch_embed.grid_size
        others, patches = positions.split([positions.shape[1] - rows * columns, rows * columns], dim=1)
        patches = patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        patches = nn.functional.interpolate(patches, grid, mode="bicubic", antialias=True)
        state["pos_embed"] = torch.cat([others, patches.flatten(2).mT], dim=1)
    whole = timm.create_model(name, pretrained=False, img_size=tuple(images.shape[-2:])).eval()
    assert not [key for key in whole.load_state_dict(state, strict=False).missing_keys if key.startswith("blocks.")]
    source.select(["block5", "block1", "block2"])
    config = whole.default_cfg
    tokens = _outputs_of(
        whole, [whole.blocks[index] for index in (1, 2, 5)], _normalised(images, config["mean"], config["std"])
    )
    with torch.no_grad():
        found = source(images)
    for activation, expected in zip(found, tokens, strict=True):
        assert expected.shape[1] > 8  # class or register tokens come first
        torch.testing.assert_close(activation, expected[:, -8:].mT.unflatten(2, grid), rtol=1e-4, atol=1e-5)


def _make_positions_large(source):
    """Give positions the size of what they are added to: initialised ones are next to nothing."""
    source.pyramid.pos_embed.normal_(generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "points"),
    [("test_vit", (0, 2, 3, 5)), ("test_vit3", (1, 3, 5, 8)), ("deit_tiny_patch16_224", (2, 5, 8, 11))],
)
def test_a_transformers_usual_points_are_spread_over_its_depth(name, points):
    assert build_source(f"timm:{name}").critical_points == tuple(f"block{index}" for index in points)


def test_blocks_behind_the_last_point_do_not_run(source_of, images):
    source = source_of("timm:test_vit")
    ran = []
    handles = [block.register_forward_hook(lambda *_: ran.append(1)) for block in source.pyramid.blocks]
    usual = source.critical_points
    with torch.no_grad():
        source.select(["block2"])(images)
    source.select(list(usual))
    for handle in handles:
        handle.remove()
    assert len(ran) == 3


def test_a_transformer_that_is_fitted_to_a_size_gives_the_same_for_it(images):
    source = load_source("timm:test_vit3", "random")
    _make_positions_large(source)
    with torch.no_grad():
        before = source(images)
        assert all(torch.equal(*pair) for pair in zip(before, source.fit_to((64, 48))(images), strict=True))
    assert tuple(source.pyramid.pos_embed.shape) == (1, 13, 96)  # 4 x 3 patches and a register


@pytest.mark.parametrize(
    ("name", "size", "fitting"),
    [
        ("test_vit", (100, 64), "96 x 64 or 112 x 64"),
        ("test_vit", (8, 40), "16 x 32 or 16 x 48"),
        ("test_vit", (8, 16), "16 x 16$"),
        ("vit_small_patch14_reg4_dinov2", (128, 128), "126 x 126 or 140 x 140"),
    ],
)
def test_a_size_that_is_no_multiple_of_the_patch_is_an_input_error_that_names_some_that_are(
    source_of, name, size, fitting
):
    message = rf"dataset\.image_size {size[0]} x {size[1]} cannot be cut .* patches of 1[46] x 1[46].*such as {fitting}"
    with pytest.raises(InputError, match=message):
        source_of(f"timm:{name}").describe(size)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg19", "unknown source 'vgg19'; did you mean 'vgg16'"),
        ("efficientnet_lite", "did you mean 'efficientnet_lite[012]'"),
        (
            "alexnet",
            "unknown source 'alexnet'.*known: efficientnet_lite0, .*_lite1, .*_lite2, resnet18, timm:<name>, vgg16",
        ),
        ("timm:test_vit_relpos", "'test_vit_relpos' is a transformer whose positions timm does not interpolate"),
        ("timm:resnet10tt", "timm cannot build 'resnet10tt' as a source; did you mean 'resnet10t'"),
    ],
)
def test_an_unknown_source_is_an_input_error_that_offers_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        build_source(name)


def test_a_source_runs_no_deeper_than_is_asked():
    source = Source({"a": nn.Conv2d(3, 4, 1), "b": nn.ReLU(), "c": nn.Conv2d(4, 2, 1)})
    images = torch.rand(1, 3, 5, 5)
    first, second, _ = source(images)
    source.stages["c"].forward = None  # whoever calls it fails
    assert [torch.equal(*pair) for pair in zip(source(images, 2), (first, second), strict=True)] == [True, True]
