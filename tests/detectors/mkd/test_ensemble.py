"""Several cloners: their mean and disagreement by hand, and each the one that it would be alone."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from kdad.comparison.plan import bind_settings
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.ensemble import Cloners, build_cloners, each_cloner, location_disagreement, mean_activations
from kdad.detectors.mkd.forward_map import fuse_points, location_maps
from kdad.detectors.mkd.parameters import ClonerParameters, DiscrepancyParameters
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.features.cache import FeatureCache
from kdad.seeding import torch_seed
from parameter_blocks import changed, least_parameters

_LOSS = DiscrepancyParameters(value_weight=0.5, direction_weight=2.0)


def _at_one_location(*vectors: list[float]) -> list[torch.Tensor]:
    """Return activations `(1, C, 1, 1)` of one cloner each."""
    return [torch.tensor(vector).view(1, -1, 1, 1) for vector in vectors]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        # Channels 3, 0 (mean 1.5) and 0, 4 (mean 2): variances 2.25 and 4, whose mean is 3.125.
        ("value", 3.125),
        # Unit vectors (1, 0) and (0, 1): each channel's variance is 1/4; the cosines of the four pairs are 1, 0, 0, 1.
        ("direction", 0.5),
        ("total", 0.5 * 3.125 + 2.0 * 0.5),
    ],
)
def test_disagreement_by_hand(term, expected):
    found = location_disagreement(_at_one_location([3.0, 0.0], [0.0, 4.0]), term, _LOSS)
    assert found.shape == (1, 1, 1)
    assert found.item() == pytest.approx(expected)


def test_disagreement_in_direction_is_the_mean_cosine_distance_of_all_ordered_pairs():
    torch.manual_seed(4)
    cloners = [torch.randn(2, 5, 3, 4) for _ in range(3)]
    pairs = [1 - cosine_similarity(one, other, dim=1) for one, other in product(cloners, repeat=2)]
    found = location_disagreement(cloners, "direction", _LOSS)
    torch.testing.assert_close(found, torch.stack(pairs).mean(0), rtol=1e-5, atol=1e-6)


def test_disagreement_in_value_is_the_variance_of_numpy():
    torch.manual_seed(5)
    cloners = [torch.randn(2, 5, 3, 4) for _ in range(4)]
    expected = np.stack([one.numpy() for one in cloners]).var(axis=0).mean(axis=1)
    np.testing.assert_allclose(location_disagreement(cloners, "value", _LOSS), expected, rtol=1e-5)


@pytest.mark.parametrize("term", ["value", "direction", "total"])
def test_cloners_that_say_the_same_agree_also_where_they_say_nothing(term):
    for vector in ([1.0, 2.0], [0.0, 0.0]):
        assert location_disagreement(_at_one_location(vector, vector, vector), term, _LOSS).item() == 0


def test_the_mean_is_over_cloners_and_one_alone_is_left_as_it_is():
    first, second = _at_one_location([1.0, 5.0], [3.0, -5.0])
    assert mean_activations([[first], [second]])[0].flatten().tolist() == [2.0, 0.0]
    assert mean_activations([[first]])[0] is first


def test_called_several_give_their_mean():
    cloners = [nn.Identity(), nn.ReLU()]
    together = Cloners([type("One", (nn.Module,), {"forward": lambda _, x, act=act: [act(x)]})() for act in cloners])
    images = torch.tensor([[-2.0, 4.0]])
    assert together(images)[0].tolist() == [[-1.0, 4.0]]
    assert [found[0].tolist() for found in each_cloner(together, images)] == [[[-2.0, 4.0]], [[0.0, 4.0]]]


def _parameters(count: int, **architecture) -> ClonerParameters:
    return ClonerParameters(count=count, architecture=architecture, loss={}, training={"epochs": 1})


def test_the_first_of_several_is_the_one_that_would_stand_alone():
    def build(architecture):
        return nn.Linear(2, architecture.hidden_width)

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    alone, three = (build_cloners(_parameters(count, hidden_width=4), build, seed=7) for count in (1, 3))
    assert torch.equal(torch.rand(2), expected)
    with torch_seed(7, "cloner", "initialisation"):
        assert torch.equal(nn.Linear(2, 4).weight, alone.weight)
    weights = [one.weight for one in three.members]
    assert torch.equal(weights[0], alone.weight)
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    widths = build_cloners(_parameters(2, hidden_widths=[3, 5]), build, seed=7)
    assert [one.out_features for one in widths.members] == [3, 5]


def _block(settings, **given) -> dict:
    return settings().cloner.model_dump() | given


def test_each_cloner_learns_what_it_would_learn_alone(fit, settings):
    alone, _, alone_fitting = fit(MkdDetector, settings())
    together, _, fitting = fit(MkdDetector, settings(cloner=_block(settings, count=2)))
    first, second = together.cloner.members
    for name, tensor in alone.cloner.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(first.blocks[0][0].weight, second.blocks[0][0].weight)
    # The loss is the sum of two such cloners' losses.
    last = [
        one.history.query("term == 'total' and split == 'training'")["value"].iloc[0]
        for one in (fitting, alone_fitting)
    ]
    assert 1.5 < last[0] / last[1] < 2.5


def test_each_batch_is_read_once_for_all_cloners(fit, settings, monkeypatch):
    reads = []
    original = FeatureCache.outputs
    monkeypatch.setattr(FeatureCache, "outputs", lambda self, rows: reads.append(1) or original(self, rows))
    plain = {"detection": {"score": "total_loss"}}
    for count in (1, 3):
        fit(MkdDetector, settings(cloner=_block(settings, count=count), **plain))
        reads.append("fitted")
    one = reads.index("fitted")
    assert one > 0
    assert reads[one + 1 :].index("fitted") == one


@pytest.fixture
def three(fit, settings):
    """A fitted detector of three cloners, of widths of their own, with the images that it learnt from."""

    def make(**scoring):
        architecture = {"size": "small", "hidden_widths": [4, 6, 8]}
        cloner = _block(settings, count=3, architecture=architecture)
        detector, seen, _ = fit(MkdDetector, settings(cloner=cloner, **scoring))
        return detector, seen

    return make


@torch.no_grad()
def _said(detector, images) -> tuple[list, list[list]]:
    """Return the scaled source's activations and each cloner's."""
    source = [s / scale for s, scale in zip(detector.outputs(images)["source"], detector.scales, strict=True)]
    return source, [cloner(images) for cloner in detector.cloner.members]


def test_maps_and_scores_are_of_the_mean_and_of_the_disagreement(three):
    rules = {
        "forward_map": {"points": "all", "fusion": "sum", "quantity": "disagreement"},
        "detection": {
            "score": "map_maximum",
            "points": "all",
            "term": "value",
            "normalisation": "none",
            "weighting": "equal",
        },
    }
    detector, seen = three(**rules)
    images = seen.batch(seen.split.rows("test"))
    source, cloners = _said(detector, images)
    mean = [sum(one[i] for one in cloners) / 3 for i in range(4)]
    found = detector.maps(images, None, ["discrepancy", "detection"])
    own = [location_disagreement([one[i] for one in cloners], "direction", _LOSS) for i in range(4)]
    expected = fuse_points(own, (32, 48), "sum", [1.0] * 4)
    np.testing.assert_allclose(found.maps["discrepancy"], expected, rtol=1e-4, atol=1e-6)
    expected = fuse_points(location_maps(source, mean, "value", _LOSS), (32, 48), "sum", [1.0] * 4)
    np.testing.assert_allclose(found.maps["detection"], expected, rtol=1e-4, atol=1e-6)
    total = discrepancy_terms(source, mean, detector.settings.cloner.loss)["total"]
    np.testing.assert_allclose(found.scores["total_loss"], total, rtol=1e-4)


def test_opened_several_say_the_same_to_the_bit(three, tmp_path):
    both = {"quantity": "both", "fusion": "sum", "normalisation": "position"}
    detector, seen = three(forward_map=both, detection=both)
    images = seen.batch(seen.split.rows("test"))
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu")
    before, after = (one.maps(images, None, ["discrepancy", "detection"]) for one in (detector, opened))
    for name in ("discrepancy", "detection"):
        np.testing.assert_array_equal(after.maps[name], before.maps[name])
    np.testing.assert_array_equal(after.scores["total_loss"], before.scores["total_loss"])


def test_gradients_go_through_the_mean(three):
    detector, seen = three(localisation=["gradients"], smoothing={"gradients": {}}, gradient_map={"points": "all"})
    images = seen.batch(seen.split.rows("test")[:2]).requires_grad_()
    source = [s / scale for s, scale in zip(detector.frozen["source"].module(images), detector.scales, strict=True)]
    cloners = [cloner(images) for cloner in detector.cloner.members]
    mean = [sum(one[i] for one in cloners) / 3 for i in range(4)]
    total = discrepancy_terms(source, mean, detector.settings.cloner.loss)["total"]
    (expected,) = torch.autograd.grad(total.sum(), images)
    found = detector.maps(images.detach(), None, ["gradients"]).maps["gradients"]
    np.testing.assert_allclose(found, expected.abs().sum(1), rtol=1e-3, atol=1e-7)


def test_the_cost_counts_all_cloners(fit, settings):
    one, two = (fit(MkdDetector, settings(cloner=_block(settings, count=count))).detector.cost() for count in (1, 2))
    assert two["parameters"] == 2 * one["parameters"]
    assert two["flops"] == 2 * one["flops"]


@pytest.mark.parametrize("block", ["detection", "forward_map"])
@pytest.mark.parametrize("quantity", ["disagreement", "both"])
def test_one_cloner_alone_cannot_disagree(settings, block, quantity):
    rule = {"quantity": quantity, "fusion": "sum", "normalisation": "position"}
    with pytest.raises(ValueError, match=rf"scoring\.{block}\.quantity is '{quantity}' and cloner\.count 1"):
        settings(**{block: rule})
    assert settings(cloner=_block(settings, count=2), **{block: rule})


def test_it_is_told_with_the_parameters_before_anything_is_computed():
    given = changed(changed(least_parameters(), "scoring.forward_map", {"quantity": "disagreement"}), "cloner.count", 1)
    with pytest.raises(InputError, match=r"scoring\.forward_map\.quantity is 'disagreement' and cloner\.count 1"):
        bind_settings("mkd", given, "parameters")
    assert bind_settings("mkd", changed(given, "cloner.count", 2), "parameters")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 2, "hidden_widths": [4]}, "has 1 widths and count is 2; give one a cloner"),
        ({"count": 1, "hidden_widths": [4], "size": "equal"}, "hidden_widths goes with size=small, and size is equal"),
        ({"count": 0}, "greater than or equal to 1"),
        ({"count": 1, "hidden_widths": [0]}, "greater than or equal to 1"),
    ],
)
def test_widths_and_counts_that_do_not_fit(given, message):
    count = given.pop("count")
    with pytest.raises(ValueError, match=message):
        _parameters(count, **given)
