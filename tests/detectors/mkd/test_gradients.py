"""Gradient maps by hand, and no trace of having made them."""

import numpy as np
import pytest
import torch
from torch import nn

from kdad.compute import Compute
from kdad.detectors.mkd import gradients
from kdad.detectors.mkd.cloner import Cloner, small_widths
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.gradients import TotalDiscrepancy, gradient_maps
from kdad.detectors.mkd.parameters import DiscrepancyParameters, GradientMapParameters
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.networks.weights import load_source

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)
_VALUE_ONLY = DiscrepancyParameters(value_weight=1.0, direction_weight=0.0)
_METHODS = ("gradients", "smooth_grad", "guided_backprop")
_FEW = GradientMapParameters(smooth_grad_samples=3)


class _Linear(nn.Module):
    """The scalar product of an image with fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([1.0, -2.0, -3.0, 4.0, 5.0, -6.0]).view(3, 1, 2))

    def forward(self, images):
        return (images * self.weights).flatten(1).sum(1)


class _HalfSquare(nn.Module):
    """Half the squared length of an image: its gradient is the image."""

    def forward(self, images):
        return images.square().flatten(1).sum(1) / 2


class _ScaledReLU(nn.Module):
    """One critical point: the ReLU of the image times a factor at each location."""

    def __init__(self, factors) -> None:
        super().__init__()
        self.factors, self.relu = torch.tensor(factors), nn.ReLU()
        self.hooked = []

    def forward(self, images):
        self.hooked.append(bool(self.relu._forward_hooks or self.relu._forward_pre_hooks))
        return [self.relu(images * self.factors)]


class _Failing(nn.Module):
    def forward(self, _):
        raise RuntimeError("the forward pass fails")


def _total(source, cloner, scales=(1.0,), positions=(0,), loss=_VALUE_ONLY):
    return TotalDiscrepancy(source, cloner, list(scales), list(positions), loss, _FLOAT32).eval()


def _hooks(*networks) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for network in networks for module in network.modules() for kind in kinds)


@pytest.fixture(scope="module")
def networks() -> dict:
    """Sources with random weights and small cloners for 32 x 48 images, in evaluation mode."""
    found = {}
    for name in ("timm:test_resnet", "resnet18", "efficientnet_lite0", "timm:test_vit"):
        source = load_source(name, "random")
        points = source.describe((32, 48))
        torch.manual_seed(0)
        cloner = Cloner(small_widths(points, (32, 48), 8), points, (32, 48))
        found[name] = source, cloner.eval().requires_grad_(False)
    return found


@pytest.fixture
def real(networks):
    """Build the total discrepancy of a source and its cloner over the last three points."""

    def build(name="timm:test_resnet"):
        loss = DiscrepancyParameters(direction_form="whole_vector")
        return _total(*networks[name], [0.5, 1.0, 2.0, 1.0], [1, 2, 3], loss)

    return build


@pytest.fixture
def pair() -> torch.Tensor:
    """Two non-square images."""
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("method", _METHODS)
def test_the_gradient_of_a_linear_function_is_its_weights_for_every_method(method):
    # |1| + |3| + |5| and |2| + |4| + |6| over the channels; noise does not change a linear function's gradient
    found = gradient_maps(_Linear(), torch.rand(2, 3, 1, 2), method, _FEW, seed=0)
    assert found.tolist() == [[[9.0, 12.0]]] * 2


def test_the_absolute_value_is_taken_after_averaging_over_noise():
    parameters = GradientMapParameters(smooth_grad_samples=2000, smooth_grad_sd=1.0)
    found = gradient_maps(_HalfSquare(), torch.zeros(1, 3, 1, 1), "smooth_grad", parameters, seed=0)
    # three means of 2000 signed normals, each about 0.02; of their absolute values each would be sqrt(2 / pi) = 0.8
    assert found.item() < 0.3


def test_the_noise_has_the_standard_deviation_asked_for():
    # one copy: the gradient is x + noise, so the map is 30 + three noises of sd 0.2: sd 0.2 * sqrt(3) = 0.346
    parameters = GradientMapParameters(smooth_grad_samples=1, smooth_grad_sd=0.2)
    found = gradient_maps(_HalfSquare(), torch.full((1, 3, 60, 60), 10.0), "smooth_grad", parameters, seed=0)
    assert found.mean().item() == pytest.approx(30, abs=0.05)
    assert found.std().item() == pytest.approx(0.2 * 3**0.5, rel=0.05)
    # the mean of 16 copies has a quarter of it
    parameters = GradientMapParameters(smooth_grad_samples=16, smooth_grad_sd=0.2)
    found = gradient_maps(_HalfSquare(), torch.full((1, 3, 60, 60), 10.0), "smooth_grad", parameters, seed=0)
    assert found.std().item() == pytest.approx(0.05 * 3**0.5, rel=0.05)


def test_noise_follows_the_seed_and_leaves_the_global_stream_alone(pair):
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    first, again, other = (gradient_maps(_HalfSquare(), pair, "smooth_grad", _FEW, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # Image 1 everywhere, N = 6; source relu(x) = 1, cloner relu(a x) = a for a = 2 and 1/2; L = mean (s - c)^2.
        # dL/dc = 2 (c - s) / 6 = 1/3 and -1/6; dL/ds = -1/3 and 1/6; dc/dx = a. Three channels: the map is 3 |dL/dx|.
        ("gradients", [3 * abs(2 / 3 - 1 / 3), 3 * abs(-1 / 12 + 1 / 6)]),
        # The cloner's -1/6 is cut at its ReLU; the source's -1/3 is not.
        ("guided_backprop", [3 * abs(2 / 3 - 1 / 3), 3 * abs(0 + 1 / 6)]),
    ],
)
def test_the_cloners_relus_guide(method, expected):
    source, cloner = _ScaledReLU([1.0, 1.0]), _ScaledReLU([2.0, 0.5])
    found = gradient_maps(_total(source, cloner), torch.ones(1, 3, 1, 2), method, _FEW, seed=0)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    if method == "guided_backprop":
        assert (source.hooked, cloner.hooked) == ([False], [True])
    assert _hooks(source, cloner) == 0


def test_no_hook_is_left_when_the_forward_pass_raises():
    source = _ScaledReLU([1.0])
    cloner = nn.Sequential(nn.ReLU(), _Failing())
    with pytest.raises(RuntimeError, match="the forward pass fails"):
        gradient_maps(_total(source, cloner), torch.ones(1, 3, 1, 1), "guided_backprop", _FEW, seed=0)
    assert source.hooked == [False]
    assert _hooks(source, cloner) == 0


def test_total_divides_the_source_by_its_scale_at_the_chosen_points():
    # points x and 3x against a cloner's 0: with the second point alone and scale 2, L = mean (3x/2)^2 = 2.25 x^2
    source = type("Both", (nn.Module,), {"forward": lambda _, x: [x, 3 * x]})()
    cloner = type("Silent", (nn.Module,), {"forward": lambda _, x: [0 * x, 0 * x]})()
    total = _total(source, cloner, scales=(7.0, 2.0), positions=(1,))
    assert total(torch.full((1, 3, 1, 1), 2.0)).tolist() == pytest.approx([9.0])
    # d/dx of (1/3) sum (1.5 x)^2 = 1.5 x = 3 in each of three channels
    found = gradient_maps(total, torch.full((1, 3, 1, 1), 2.0), "gradients", _FEW, seed=0)
    assert found.item() == pytest.approx(9.0)


@pytest.mark.parametrize("name", ["timm:test_resnet", "resnet18", "efficientnet_lite0", "timm:test_vit"])
def test_maps_agree_with_finite_differences(real, pair, name):
    total = real(name)
    found = gradient_maps(total, pair, "gradients", _FEW, seed=0)
    row, column = divmod(int(found[0].argmax()), found.shape[2])
    slopes = []
    for channel in range(3):
        step = torch.zeros_like(pair[:1])
        step[0, channel, row, column] = 1e-2  # large, for float32
        with torch.no_grad():
            slopes.append((total(pair[:1] + step) - total(pair[:1] - step)).item() / 2e-2)
    assert sum(map(abs, slopes)) == pytest.approx(found[0, row, column].item(), rel=0.1)


@pytest.mark.parametrize("name", ["timm:test_resnet", "resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("method", _METHODS)
def test_maps_leave_networks_and_images_as_they_were(real, networks, pair, name, method):
    source, cloner = networks[name]
    before, given = {key: t.clone() for key, t in cloner.state_dict().items()}, pair.clone()
    found = gradient_maps(real(name), pair, method, _FEW, seed=0)
    assert found.shape == (2, 32, 48)
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    assert found.max() > 0
    assert not found.requires_grad
    assert _hooks(source, cloner) == 0
    assert torch.equal(pair, given)
    assert not pair.requires_grad
    assert pair.grad is None
    assert all(torch.equal(tensor, before[key]) for key, tensor in cloner.state_dict().items())
    assert all(parameter.grad is None for network in (source, cloner) for parameter in network.parameters())


@pytest.mark.parametrize("method", _METHODS)
def test_an_images_map_does_not_depend_on_its_batch(real, pair, method):
    together = gradient_maps(real(), pair, method, _FEW, seed=0)
    alone = gradient_maps(real(), pair[1:], method, _FEW, seed=0)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-7)


def test_guiding_changes_the_map(real, pair):
    guided, plain = (gradient_maps(real(), pair, method, _FEW, 0) for method in ("guided_backprop", "gradients"))
    assert not torch.allclose(guided, plain)


def test_integrated_gradients_by_hand():
    # From b to x the gradient's mean is (x + b) / 2, times the way x - b: (x^2 - b^2) / 2 at each colour.
    images = torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, -1.0]]).view(1, 3, 1, 2)
    baseline = torch.tensor([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]]).view(3, 1, 2)
    # (9 - 1) / 2 + 4 / 2 + |0 - 4| / 2 and 0 + |0 - 4| / 2 + 1 / 2
    found = gradient_maps(_HalfSquare(), images, "integrated_gradients", GradientMapParameters(), 0, baseline)
    assert found.flatten().tolist() == pytest.approx([8.0, 2.5], rel=1e-5)


_SIGMA = 1.5


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Three images a batch."""
    monkeypatch.setattr(MkdDetector, "batch_size", lambda self, method=None: 3)


@pytest.fixture
def mapped(fit, settings):
    """A fitted detector that makes a gradient map by a method, with the images that it learnt from."""

    def make(method="gradients", **rule):
        rule = {"points": "last 2", "batch_size": 3, "smooth_grad_samples": 2, **rule}
        smoothing = {method: {"gaussian_sigma": _SIGMA}}
        detector, seen, _ = fit(MkdDetector, settings(localisation=[method], smoothing=smoothing, gradient_map=rule))
        return detector, seen

    return make


def _loss(detector, images: torch.Tensor, points: list[int]) -> torch.Tensor:
    """Return L_total `(B,)` of these points, from the source itself."""
    source = [s / scale for s, scale in zip(detector.frozen["source"].module(images), detector.scales, strict=True)]
    cloner = detector.cloner(images)
    pairs = [source[i] for i in points], [cloner[i] for i in points]
    return discrepancy_terms(*pairs, detector.settings.cloner.loss)["total"]


def _slopes(detector, seen, part: str, points: list[int]) -> np.ndarray:
    """Return the absolute gradient of these points' loss, summed over colours, of the images of a part `(N, H, W)`."""
    images = seen.batch(seen.split.rows(part)).requires_grad_()
    (found,) = torch.autograd.grad(_loss(detector, images, points).sum(), images)
    return found.abs().sum(1).double().numpy()


def _map(detector, seen, method="gradients") -> np.ndarray:
    return detector.maps(seen.batch(seen.split.rows("test")), None, [method]).maps[method]


def test_as_published_the_sum_of_all_points_is_differentiated_at_once(mapped):
    detector, seen = mapped()
    np.testing.assert_allclose(_map(detector, seen), _slopes(detector, seen, "test", [2, 3]), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("method", ["gradients", "smooth_grad", "guided_backprop", "integrated_gradients"])
def test_opened_it_maps_to_the_same_bits(mapped, tmp_path, method):
    detector, seen = mapped(method, integrated_gradients_steps=3)
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu")
    np.testing.assert_array_equal(_map(opened, seen, method), _map(detector, seen, method))
    assert opened.metadata() == detector.metadata()


def test_integrated_gradients_add_up_to_the_difference_from_the_mean_training_image(mapped, monkeypatch):
    detector, seen = mapped("integrated_gradients", integrated_gradients_steps=100)
    images = seen.batch(seen.split.rows("test")[:4])
    training = seen.batch(seen.split.rows("train"))
    torch.testing.assert_close(detector.mean_image, training.mean(0), rtol=1e-5, atol=1e-6)
    # Before the absolute value they add up to the difference of the losses (Sundararajan et al. 2017, proposition 1).
    signed = []
    original = gradients._integrated_gradients
    monkeypatch.setattr(
        gradients, "_integrated_gradients", lambda *given: signed.append(original(*given)) or signed[-1]
    )
    found = detector.maps(images, None, ["integrated_gradients"]).maps["integrated_gradients"]
    np.testing.assert_allclose(found, signed[0].abs().sum(1), rtol=1e-6)
    with torch.no_grad():
        difference = _loss(detector, images, [2, 3]) - _loss(detector, training.mean(0, keepdim=True), [2, 3])
    sums = signed[0].flatten(1).sum(1)
    torch.testing.assert_close(sums, difference, rtol=0.05, atol=0.02 * difference.abs().max().item())


def test_a_mean_image_that_is_missing_or_of_another_size_is_named(mapped, tmp_path):
    detector, _ = mapped("integrated_gradients", integrated_gradients_steps=2)
    folder = detector.save(tmp_path / "kept")
    for image, what in ((None, "None"), (torch.zeros(3, 2, 2), r"\(3, 2, 2\)")):
        detector.mean_image = image
        folder = detector.save(tmp_path / f"kept_{what[:3]}")
        with pytest.raises(InputError, match=rf"mean image is {what}.*\(3, 32, 48\)"):
            open_detector(folder, "cpu")
