"""A detector's gradient maps: of the loss as published, by adding up, and to the same bits when opened."""

import numpy as np
import pytest
import torch

from kdad.detectors.mkd import gradients
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.opening import open_detector
from kdad.errors import InputError

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
