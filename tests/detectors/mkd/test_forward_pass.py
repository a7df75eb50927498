"""Scores and maps of cached activations against the same worked out at once."""

import numpy as np
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.mkd import forward_pass
from kdad.detectors.mkd.cloner import Cloner
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.forward_map import fuse_points, location_maps
from kdad.detectors.mkd.parameters import DiscrepancyParameters
from kdad.features.cache import write_cache
from kdad.networks.points import CriticalPoint
from kdad.parameters.scoring import ScoringParameters

_SIZE = (8, 16)
_POINTS = [CriticalPoint("low", 6, 4, 8, signed=False), CriticalPoint("high", 5, 2, 4, signed=False)]
_LOSS = DiscrepancyParameters(value_weight=0.5)
_VALIDATION, _ROWS = np.array([1, 4, 5]), np.array([1, 4, 5, 0, 6])


def _parameters(detection=None, **forward_map) -> ScoringParameters:
    points = {"points": "all", "fusion": "sum"}
    return ScoringParameters(
        localisation=["discrepancy"],
        detection=detection or {},
        forward_map=points | forward_map,
        gradient_map={},
        smoothing={"discrepancy": {}},
    )


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Two images a batch, so that five take three."""
    monkeypatch.setattr(forward_pass, "_BATCH", 2)


@pytest.fixture
def content() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Seven images and made-up activations."""
    generator = torch.Generator().manual_seed(6)
    activations = [torch.rand(7, p.channels, p.height, p.width, generator=generator) for p in _POINTS]
    return torch.rand(7, 3, *_SIZE, generator=generator), activations


@pytest.fixture
def cloner() -> Cloner:
    """An untrained cloner, left in training mode."""
    torch.manual_seed(0)
    return Cloner([[4, 6], [4, 5]], _POINTS, _SIZE).train()


@pytest.fixture
def forward(tmp_path, content, cloner) -> forward_pass.ForwardPass:
    """The cloner against the cached activations, in float32."""
    images, activations = content
    manifest = {"image_size": list(_SIZE), "dtype": "float32", "scales": [1.0, 2.0]}
    cache = write_cache(tmp_path / "cache", manifest, _POINTS, 7, iter([(images.numpy(), activations)]), {})
    return forward_pass.ForwardPass(cache, cloner, _LOSS, Compute(torch.device("cpu"), torch.float32))


def _pairs(content, cloner, rows):
    """Return the scaled source's and the cloner's activations of these rows, all at once."""
    images, activations = content
    with torch.no_grad():
        return [activations[0][rows], activations[1][rows] / 2], cloner.eval()(images[rows])


@pytest.mark.parametrize(("points", "chosen"), [("all", [0, 1]), ("last 1", [1]), (["low"], [0])])
def test_scores_are_the_total_loss_at_the_chosen_points(tmp_path, forward, content, cloner, points, chosen):
    scores, _ = forward.score(_ROWS, _VALIDATION, _parameters({"points": points}), tmp_path / "maps.npy")
    source, found = _pairs(content, cloner, _ROWS)
    expected = discrepancy_terms([source[i] for i in chosen], [found[i] for i in chosen], _LOSS)["total"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("term", ["direction", "value", "total"])
@pytest.mark.parametrize("fusion", ["sum", "geometric_mean"])
def test_maps_are_the_fused_discrepancy_of_the_rows_in_order(tmp_path, forward, content, cloner, term, fusion):
    _, stack = forward.score(_ROWS, _VALIDATION, _parameters(fusion=fusion, term=term), tmp_path / "maps.npy")
    expected = fuse_points(location_maps(*_pairs(content, cloner, _ROWS), term, _LOSS), _SIZE, fusion, [1.0, 1.0])
    np.testing.assert_allclose(stack, expected, rtol=1e-4, atol=1e-6)
    assert [path.name for path in tmp_path.glob("maps*")] == ["maps.npy"]


def test_only_the_chosen_points_are_mapped(tmp_path, forward, content, cloner):
    _, stack = forward.score(_ROWS, _VALIDATION, _parameters(points=["high"]), tmp_path / "maps.npy")
    maps = location_maps(*_pairs(content, cloner, _ROWS), "direction", _LOSS)
    np.testing.assert_allclose(stack, fuse_points(maps[1:], _SIZE, "sum", [1.0]), rtol=1e-4, atol=1e-6)


def test_normalisation_divides_each_point_by_its_mean_over_validation_rows_only(tmp_path, forward, content, cloner):
    parameters = _parameters(normalisation="validation")
    _, stack = forward.score(_ROWS, _VALIDATION, parameters, tmp_path / "maps.npy")
    maps = location_maps(*_pairs(content, cloner, _ROWS), "direction", _LOSS)
    scales = [m[:3].mean().item() for m in maps]  # the first three of the rows are the validation rows
    np.testing.assert_allclose(stack, fuse_points(maps, _SIZE, "sum", scales), rtol=1e-4)
    assert not np.allclose(scales, [m.mean().item() for m in maps], rtol=1e-3)
    # A point's normalised map is 1 on average over the validation rows (upsampling by whole factors keeps the mean
    # but for the borders), so the sum of two is about 2.
    assert stack[:3].mean() == pytest.approx(2, rel=0.02)


def test_a_map_of_one_test_image_does_not_depend_on_the_others(tmp_path, forward):
    parameters = _parameters(normalisation="validation")
    _, together = forward.score(_ROWS, _VALIDATION, parameters, tmp_path / "together.npy")
    _, alone = forward.score(_ROWS[-1:], _VALIDATION, parameters, tmp_path / "alone.npy")
    np.testing.assert_allclose(alone[0], together[-1], rtol=1e-5, atol=1e-6)


def test_a_cloner_that_is_perfect_on_validation_gives_finite_maps(tmp_path, forward, content, monkeypatch):
    source = [content[1][0], content[1][1] / 2]
    rows = iter([_VALIDATION[:2], _VALIDATION[2:], _ROWS[:2], _ROWS[2:4], _ROWS[4:]])
    monkeypatch.setattr(forward.cloner, "forward", lambda _: [s[row] for row in [next(rows)] for s in source])
    parameters = _parameters(normalisation="validation", term="value")
    _, stack = forward.score(_ROWS, _VALIDATION, parameters, tmp_path / "maps.npy")
    assert (np.asarray(stack) == 0).all()


def test_scoring_is_done_in_evaluation_mode_and_without_gradients(tmp_path, forward, cloner):
    before = {name: tensor.clone() for name, tensor in cloner.state_dict().items()}
    source, found = next(forward.activations(_ROWS))
    assert not any(activation.requires_grad for activation in [*source, *found])
    forward.score(_ROWS, _VALIDATION, _parameters(), tmp_path / "maps.npy")
    assert not cloner.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in cloner.state_dict().items())
