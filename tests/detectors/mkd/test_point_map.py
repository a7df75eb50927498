"""Maps by a rule, standardised at each pixel, against NumPy on all images at once."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.forward_map import enlarge, location_maps
from kdad.detectors.mkd.parameters import DiscrepancyParameters, PointMapParameters
from kdad.detectors.mkd.point_map import Discrepancies, PointMap
from kdad.detectors.opening import open_detector
from kdad.scoring.position import PositionMoments

_SIZE, _SIGMA = (32, 48), 1.5
_RULE = {"term": "total", "fusion": "sum", "normalisation": "position"}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Three images a batch."""
    monkeypatch.setattr(MkdDetector, "batch_size", lambda self, method=None: 3)


@torch.no_grad()
def _enlarged(detector, seen, part) -> list[np.ndarray]:
    """Return each point's maps of a part, at the images' size, from the source itself."""
    images = torch.from_numpy(seen.images.pixels[seen.split.rows(part)])
    source = [found / scale for found, scale in zip(detector.outputs(images)["source"], detector.scales, strict=True)]
    maps = location_maps(source, detector.cloner(images), "total", detector.settings.cloner.loss)
    return [enlarge(one, _SIZE).double().numpy() for one in maps]


def test_a_map_is_the_sum_of_points_standardised_at_each_pixel(fit, settings):
    scoring = {
        "forward_map": _RULE | {"points": "all"},
        "detection": _RULE | {"points": "last 2", "smoothing": {"gaussian_sigma": 0.5}, "weighting": "generalisation"},
        "smoothing": {"discrepancy": {"gaussian_sigma": _SIGMA}},
    }
    detector, seen, _ = fit(MkdDetector, settings(**scoring))
    training, held_out, test = (_enlarged(detector, seen, part) for part in ("train", "validation", "test"))
    for name, chosen, sigma, power in (("discrepancy", range(4), _SIGMA, 0), ("detection", (2, 3), 0.5, 4)):
        expected = 0
        for point in chosen:
            smooth = [gaussian_filter(found[point], (0, sigma, sigma)) for found in (training, held_out)]
            level = smooth[1].mean() / smooth[0].mean()
            mean = level * smooth[0].mean(0)
            widening = np.sqrt(np.square(smooth[1] - mean).mean() / smooth[0].var(0).mean())
            spread = widening * smooth[0].std(0) + 0.2 * smooth[1].std()
            expected = expected + (test[point] - mean) / (spread * max(level, 1) ** power)
        found = detector.maps(torch.from_numpy(seen.images.pixels[seen.split.rows("test")]), None, [name]).maps[name]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_opened_it_maps_to_the_same_bits(fit, settings, tmp_path):
    rules = {"forward_map": _RULE | {"points": "all"}, "detection": _RULE | {"points": "last 2"}}
    detector, seen, _ = fit(MkdDetector, settings(**rules))
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu")
    images = seen.batch(seen.split.rows("test"))
    before, after = (one.maps(images, None, ["discrepancy", "detection"]).maps for one in (detector, opened))
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    names = [name for name in detector.learnt_state() if name.startswith("moments.")]
    assert len(names) == 2 * (4 + 2)
    assert all(torch.equal(opened.learnt_state()[name], detector.learnt_state()[name]) for name in names)


def test_a_rule_without_normalisation_reads_no_image(fit, settings, monkeypatch):
    plain = {"fusion": "sum", "normalisation": "none", "weighting": "equal"}
    monkeypatch.setattr(PointMap, "take_in", lambda *_: pytest.fail("an image was read"))
    detector, *_ = fit(MkdDetector, settings(forward_map=plain, detection=plain))
    assert not any(name.startswith("moments.") for name in detector.learnt_state())


def test_by_hand():
    rule = PointMapParameters(points="all", fusion="sum", normalisation="position", term="value")
    made = PointMap(rule, [0], (1, 2), 0.0)
    made.moments = [PositionMoments(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.5]]))]
    source, cloner = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    found = made.map(Discrepancies([source], [cloner], DiscrepancyParameters()))
    assert found.tolist() == [[[4.0, 2.0]]]  # (9 - 1) / 2 and (4 - 3) / 0.5


def test_a_term_of_a_point_is_worked_out_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "kdad.detectors.mkd.point_map.location_maps",
        lambda *given: calls.append(given[2]) or location_maps(*given),
    )
    points = [torch.rand(1, 2, side, side) for side in (4, 2)]
    known = Discrepancies(points, points, DiscrepancyParameters())
    first = known.maps("direction", [0, 1])
    assert known.maps("direction", [1])[0] is first[1]
    known.maps("value", [0])
    assert calls == ["direction", "direction", "value"]


def test_both_quantities_are_maps_of_their_own_each_standardised():
    rule = PointMapParameters(points="all", fusion="sum", normalisation="position", term="value", quantity="both")
    made = PointMap(rule, [0], (1, 2), 0.0)
    made.moments = [
        PositionMoments(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.5]])),
        PositionMoments(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 3.0]])),
    ]
    source = torch.tensor([[[[3.0, 0.0]]]])
    cloners = [[torch.tensor([[[[-1.0, 0.0]]]])], [torch.tensor([[[[1.0, 4.0]]]])]]
    mean = [torch.tensor([[[[0.0, 2.0]]]])]
    found = made.map(Discrepancies([source], mean, DiscrepancyParameters(), cloners))
    # (9 - 1) / 2 + (1 - 0) / 1 and (4 - 3) / 0.5 + (4 - 1) / 3
    assert found.tolist() == [[[5.0, 3.0]]]


def test_sizes_that_cannot_be_summed_are_refused():
    with pytest.raises(ValueError, match=r"quantity is 'both', fusion 'sum' and normalisation 'none'"):
        PointMapParameters(fusion="sum", quantity="both")
    assert PointMapParameters(fusion="geometric_mean", quantity="both")
