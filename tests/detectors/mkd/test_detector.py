"""Scores and maps of the MKD detector against the same worked out at once, from the source itself."""

import re

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kdad.detectors.evaluation import map_images, run_over
from kdad.detectors.mkd.cloner import Cloner
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.discrepancy import discrepancy_terms, forward_map
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.errors import InputError
from kdad.features.cache import overall_sd
from kdad.images.splits import Split
from kdad.scoring.threshold import quantile_threshold
from parameter_blocks import changed

_PLAIN = {"points": "all", "fusion": "sum"}
_GRADIENTS = {"smooth_grad_samples": 2}
_EVERY = {
    "localisation": ["gradients", "smooth_grad", "guided_backprop", "discrepancy"],
    "smoothing": {"gradients": {}, "smooth_grad": {}, "guided_backprop": {}, "discrepancy": {}},
    "gradient_map": _GRADIENTS,
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@pytest.fixture
def fitted(fit, settings):
    """A fitted detector with the images that it learnt from."""

    def make(**given):
        detector, seen, _ = fit(MkdDetector, settings(**given))
        return detector, seen

    return make


@torch.no_grad()
def _pairs(detector, seen, rows):
    """Return the scaled source's and the cloner's activations of these rows, all at once, from the source itself."""
    every = torch.from_numpy(seen.images.pixels)
    source = detector.references["source"].open()(every)
    training = seen.split.rows("train")
    scaled = [found[rows] / found[training].std(correction=0) for found in source]
    return scaled, detector.cloner.eval()(every[rows])


def _forward(detector, source, cloner, points):
    """Return the forward map of these points, as the detector's rule puts them together."""
    rule, loss = detector.settings.scoring.forward_map, detector.settings.cloner.loss
    return forward_map([source[i] for i in points], [cloner[i] for i in points], rule, loss, (32, 48))


def _mapped(detector, seen, rows):
    """Return what the detector says of these rows by its usual way, all batches together."""
    raws = list(run_over(detector, seen, rows, ["discrepancy"]))
    maps = np.concatenate([raw.maps["discrepancy"] for raw in raws])
    return np.concatenate([raw.scores["total_loss"] for raw in raws]), maps


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Four images a batch, so that ten take three."""
    monkeypatch.setattr(MkdDetector, "batch_size", lambda self, method=None: 4)


@pytest.mark.parametrize(("points", "chosen"), [("all", [0, 1, 2, 3]), ("last 1", [3]), (["stage1"], [0])])
@pytest.mark.parametrize("form", ["per_location", "whole_vector"])
def test_scores_are_the_total_loss_at_the_chosen_points(fitted, settings, points, chosen, form):
    loss = {"direction_form": form, "value_weight": 0.25}
    cloner = settings().cloner.model_dump() | {"loss": loss}
    detector, seen = fitted(cloner=cloner, detection={"score": "total_loss", "points": points})
    scores, _ = _mapped(detector, seen, seen.split.scored)
    source, found = _pairs(detector, seen, seen.split.scored)
    pairs = [source[i] for i in chosen], [found[i] for i in chosen]
    terms = discrepancy_terms(*pairs, detector.settings.cloner.loss)
    np.testing.assert_allclose(scores, 0.25 * terms["L_val"] + terms["L_dir"], rtol=1e-4)


@pytest.mark.parametrize("term", ["direction", "value", "total"])
@pytest.mark.parametrize("fusion", ["sum", "geometric_mean"])
def test_maps_are_the_fused_discrepancy_of_the_rows_in_order(fitted, term, fusion):
    detector, seen = fitted(forward_map=_PLAIN | {"term": term, "fusion": fusion})
    _, maps = _mapped(detector, seen, seen.split.scored)
    expected = _forward(detector, *_pairs(detector, seen, seen.split.scored), [0, 1, 2, 3])
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5)


def test_only_the_chosen_points_are_mapped(fitted):
    detector, seen = fitted(forward_map=_PLAIN | {"points": ["stage2", "stage4"]})
    _, maps = _mapped(detector, seen, seen.split.scored)
    expected = _forward(detector, *_pairs(detector, seen, seen.split.scored), [1, 3])
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5)


def test_the_scored_map_is_standardised_at_each_position_by_training_images(fitted):
    detector, seen = fitted(forward_map=_PLAIN, smoothing={"discrepancy": {"gaussian_sigma": 1.5}})
    training = _forward(detector, *_pairs(detector, seen, seen.split.rows("train")), [0, 1, 2, 3]).double().numpy()
    smoothed = gaussian_filter(training, (0, 1.5, 1.5))
    mean, spread = smoothed.mean(0), smoothed.std(0) + 0.2 * smoothed.std()
    test = seen.split.rows("test")
    shown = _forward(detector, *_pairs(detector, seen, test), [0, 1, 2, 3]).numpy()
    found = np.concatenate([raw.maps["detection"] for raw in run_over(detector, seen, test, ["detection"])])
    np.testing.assert_allclose(found, (shown - mean) / spread, rtol=1e-2, atol=1e-2)


def test_scales_are_the_sd_over_the_training_images_or_1(fitted):
    detector, seen = fitted()
    assert detector.scales == [overall_sd(found) for found in seen.features["source"].statistics]
    training = detector.references["source"].open()(torch.from_numpy(seen.images.pixels[seen.split.rows("train")]))
    np.testing.assert_allclose(detector.scales, [found.double().numpy().std() for found in training], rtol=1e-5)
    assert fitted(features={"activation_scaling": "none"})[0].scales == [1.0] * 4


def test_a_map_of_one_image_does_not_depend_on_the_others(fitted):
    detector, seen = fitted(forward_map=_PLAIN)
    scores, together = _mapped(detector, seen, seen.split.scored)
    score, alone = _mapped(detector, seen, seen.split.scored[-1:])
    np.testing.assert_allclose(alone[0], together[-1], rtol=1e-4, atol=1e-6)
    assert score[0] == pytest.approx(scores[-1], rel=1e-5)


@pytest.mark.parametrize("normalisation", ["none", "per_pixel"])
def test_live_images_and_cached_outputs_say_the_same(fitted, normalisation):
    detector, seen = fitted(**_EVERY, detection={"normalisation": normalisation})
    rows = seen.split.scored[:3]
    images = torch.from_numpy(seen.images.pixels[rows])
    methods = ["discrepancy", "gradients"]
    live, cached = detector.maps(images, None, methods), detector.maps(images, seen.outputs(rows), methods)
    np.testing.assert_allclose(live.scores["total_loss"], cached.scores["total_loss"], rtol=1e-5)
    for method in methods:
        np.testing.assert_allclose(live.maps[method], cached.maps[method], rtol=1e-5, atol=1e-5)


def test_scoring_is_done_in_evaluation_mode(fitted):
    detector, seen = fitted()
    detector.train()
    before = {name: tensor.clone() for name, tensor in detector.cloner.state_dict().items()}
    _, first = _mapped(detector, seen, seen.split.scored)
    assert not detector.cloner.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.cloner.state_dict().items())
    np.testing.assert_array_equal(_mapped(detector, seen, seen.split.scored)[1], first)


@pytest.mark.parametrize("method", ["gradients", "smooth_grad", "guided_backprop"])
def test_gradients_need_the_source_and_leave_no_hook(fitted, method):
    detector, seen = fitted(**_EVERY)
    rows = seen.split.rows("test")[:2]
    images = seen.batch(rows)
    given = images.clone()
    assert "frozen" not in vars(detector)  # fitting took the source's kept outputs
    raw = detector.maps(images, seen.outputs(rows), [method])
    assert "module" in vars(detector.frozen["source"])
    assert raw.maps[method].shape == (2, 32, 48)
    assert raw.maps[method].min() >= 0 < raw.maps[method].max()
    networks = detector.frozen["source"].module, detector.cloner
    assert not any(getattr(part, kind) for network in networks for part in network.modules() for kind in _HOOKS)
    assert not images.requires_grad
    assert torch.equal(images, given)
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())


def test_gradient_maps_are_the_slope_of_the_total_loss_at_their_own_points(fitted):
    detector, seen = fitted(**_EVERY, detection={"points": "first 1"})
    row = seen.split.rows("test")[1]
    image = torch.from_numpy(seen.images.pixels[[row]]).requires_grad_()
    source = detector.references["source"].open()(image)
    found = detector.cloner(image)
    pairs = [(source[i] / detector.scales[i], found[i]) for i in (1, 2, 3)]  # last 3, whatever detection takes
    loss = discrepancy_terms([s for s, _ in pairs], [c for _, c in pairs], detector.settings.cloner.loss)["total"]
    (slope,) = torch.autograd.grad(loss.sum(), image)
    raw = detector.maps(image.detach(), None, ["gradients"])
    np.testing.assert_allclose(raw.maps["gradients"], slope.abs().sum(1), rtol=1e-3, atol=1e-6)


def test_the_score_rule_and_the_maps_that_it_needs(fitted):
    detector, _ = fitted(**_EVERY, detection={"score": "map_top_mean", "top_fraction": 0.2})
    score = detector.image_score
    assert (score.map_names, score.rule, score.top_fraction) == (("detection",), "map_top_mean", 0.2)
    assert detector.needed_methods == ["gradients", "detection"]
    assert [name for name in detector.methods if detector.is_costly(name)] == _EVERY["localisation"][:3]
    assert not detector.is_costly("detection")
    detector, _ = fitted(detection={"score": "total_loss"})
    assert detector.image_score.map_names == ()
    assert detector.needed_methods == ["discrepancy"]


def test_a_prediction_shows_one_map_and_is_scored_by_another(fitted):
    detector, seen = fitted(
        detection={"score": "map_top_mean", "top_fraction": 0.1},
        smoothing={"discrepancy": {"gaussian_sigma": 2.0}},
    )
    detector.calibrated(quantile_threshold(np.array([0.1, 0.2, 0.3]), 0.5), np.array([0.3, 0.1, 0.2]))
    rows = seen.split.scored
    images = seen.batch(rows)
    raw = detector.maps(images, None, ["discrepancy", "detection"]).maps
    predicted = detector.predict_batch(images, seen.outputs(rows))
    for prediction, shown, scored in zip(predicted, raw["discrepancy"], raw["detection"], strict=True):
        np.testing.assert_allclose(prediction.map, gaussian_filter(shown, 2.0), rtol=1e-3, atol=1e-5)
        top = np.sort(gaussian_filter(scored, 2.0), axis=None)[-154:].mean()  # a tenth of 32 * 48 = 1536 pixels
        assert prediction.score == pytest.approx(top, rel=1e-4, abs=1e-4)
        assert prediction.decision == (prediction.score > 0.2)
        assert prediction.percentile == np.mean(np.array([0.1, 0.2, 0.3]) < prediction.score)


def test_one_forward_pass_serves_both_rules(fitted, monkeypatch):
    detector, seen = fitted()
    passes = []
    original = Cloner.forward
    monkeypatch.setattr(
        Cloner, "forward", lambda self, images, depth=None: passes.append(len(images)) or original(self, images, depth)
    )
    rows = seen.split.scored[:3]
    together = detector.maps(seen.batch(rows), seen.outputs(rows), ["discrepancy", "detection"]).maps
    assert [size for size in passes if size > 1] == [3]  # single ones are samples, by which it is fused
    for name, maps in together.items():
        np.testing.assert_array_equal(detector.maps(seen.batch(rows), seen.outputs(rows), [name]).maps[name], maps)


def test_a_prediction_runs_the_cloner_no_deeper_than_its_points(fitted):
    detector, seen = fitted(forward_map={"points": "first 2"}, detection={"score": "map_maximum"})
    images = seen.batch(seen.split.scored[:3])
    expected = detector.score_and_show(images, seen.outputs(seen.split.scored[:3]))
    detector.cloner.blocks[-1].forward = None  # whoever calls it fails
    for found, known in zip(detector.score_and_show(images), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-6)


def test_the_total_loss_takes_its_own_points(fitted):
    detector, _ = fitted(detection={"score": "total_loss", "points": "last 1"})
    assert detector.depth == 4


def test_a_method_that_smoothing_does_not_name_passes_as_it_is(fitted):
    detector, _ = fitted(localisation=["gradients"], smoothing={"gradients": {"gaussian_sigma": 3}})
    assert detector.smoothing("gradients").gaussian_sigma == 3
    assert detector.smoothing("discrepancy").gaussian_sigma == 0


@pytest.mark.parametrize("block", ["detection", "forward_map", "gradient_map"])
@pytest.mark.parametrize(("choice", "message"), [(["stage9"], "no critical point 'stage9'"), ("last 5", "there are 4")])
def test_a_critical_point_that_is_not_there_is_refused_before_training(
    prepare, settings, train_context, block, choice, message
):
    with pytest.raises(InputError, match=rf"scoring\.{block}\.points.*{message}"):
        prepare(MkdDetector, settings(**{block: {"points": choice}}))
    assert not train_context.models.root.exists()


def test_a_split_without_held_out_images_is_refused_before_the_source_runs(prepare, settings, images, split, tmp_path):
    none_held_out = Split(split.table.assign(split=split.table["split"].replace("validation", "train")))
    with pytest.raises(InputError, match="no validation image"):
        prepare(MkdDetector, settings(), images=images, split=none_held_out)
    assert not (tmp_path / "features").exists()


def test_a_cloner_is_trained_once_for_all_ways_of_scoring(fit, settings, train_context):
    first = fit(MkdDetector, settings())
    assert not first.fitting.reused
    again = fit(MkdDetector, settings(detection={"score": "total_loss"}, forward_map=_PLAIN))
    assert again.fitting.reused
    assert 0 < again.fitting.seconds <= first.fitting.seconds
    assert again.detector.key == first.detector.key
    other = fit(MkdDetector, settings(cloner=settings().cloner.model_dump() | {"training_points": "last 2"}))
    assert not other.fitting.reused
    assert other.detector.key != first.detector.key


def test_stacks_are_of_held_out_and_test_images_and_of_test_images_alone_by_costly_methods(fitted, train_context):
    detector, seen = fitted(**_EVERY)
    raw = map_images(detector, seen, ["gradients", "discrepancy"], train_context.models)
    assert raw.scores["row"].tolist() == seen.split.scored.tolist()
    scores, maps = _mapped(detector, seen, seen.split.scored)
    np.testing.assert_allclose(raw.scores["total_loss"], scores, rtol=1e-6)
    np.testing.assert_allclose(raw.stacks["discrepancy"], maps, rtol=1e-5, atol=1e-6)
    test = detector.maps(seen.batch(seen.split.rows("test")), None, ["gradients"]).maps["gradients"]
    np.testing.assert_allclose(raw.stacks["gradients"], test, rtol=1e-4, atol=1e-7)
    assert set(raw.seconds) == {"discrepancy", "gradients"}


def test_maps_are_found_again_by_everything_that_they_depend_on(fitted, train_context, monkeypatch):
    given = {"localisation": ["discrepancy"], "detection": {"points": "all"}}
    detector, seen = fitted(**given)
    before = map_images(detector, seen, ["discrepancy"], train_context.models)
    with monkeypatch.context() as patch:
        patch.setattr(MkdDetector, "maps", lambda *_: 1 / 0)
        again = map_images(detector, seen, ["discrepancy"], train_context.models)
    np.testing.assert_array_equal(again.stacks["discrepancy"], before.stacks["discrepancy"])
    smoothed = {"smoothing": {"discrepancy": {"gaussian_sigma": 1}}}  # moments are those of smoothed maps
    for change in ({"detection": {"points": "last 2"}}, {"forward_map": _PLAIN}, smoothed):
        other, seen_again = fitted(**given | change)
        assert other.key == detector.key
        assert other.raw_key(["discrepancy"], seen_again) != detector.raw_key(["discrepancy"], seen)


def test_the_cost_is_of_the_cloner(fitted):
    detector, _ = fitted()
    cost = detector.cost()
    assert cost["parameters"] == sum(tensor.numel() for tensor in detector.cloner.parameters())
    # The first convolution alone: 2 * 3 * 9 * channels at each of 32 x 48 pixels.
    first = detector.cloner.blocks[0][0]
    assert cost["flops"] > 2 * 27 * first.out_channels * 32 * 48


_REMOVED = {
    "cloner": {"count": 1},
    "scoring": {
        "choose": "none",
        "choosing": {"trials": 4},
        "forward_map": {"quantity": "discrepancy", "weighting": "equal", "normalisation": "none"},
        "gradient_map": {"normalisation": "none"},
    },
}


def _kept(settings, **detection) -> dict:
    """Return the blocks of `settings` with all that was removed, at the values that change nothing."""
    blocks = settings.model_dump(mode="json")
    blocks["cloner"] |= _REMOVED["cloner"]
    blocks["cloner"]["architecture"]["hidden_widths"] = None
    for name, value in _REMOVED["scoring"].items():
        block = blocks["scoring"].get(name)
        blocks["scoring"][name] = block | value if isinstance(block, dict) else value
    blocks["scoring"]["detection"] |= detection
    return blocks


def test_what_changes_nothing_is_left_out(settings):
    for given in (settings(), settings(detection={"score": "map_maximum", "normalisation": "none"})):
        assert MkdSettings.of_kept(_kept(given)) == given


def test_a_map_has_no_part_in_total_loss_however_it_was_standardised(settings):
    given = settings(detection={"score": "total_loss", "normalisation": "none"})
    rules = {"normalisation": "validation", "term": "direction", "fusion": "sum", "weighting": "equal"}
    assert MkdSettings.of_kept(_kept(given, **rules, quantity="both", smoothing={"gaussian_sigma": 4})) == given


def test_a_detector_of_before_maps_could_be_standardised_has_one_that_is_not(settings):
    kept = _kept(settings(detection={"normalisation": "none"}))
    del kept["scoring"]["detection"]["normalisation"]
    assert MkdSettings.of_kept(kept) == settings(detection={"normalisation": "none"})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("cloner.count", 3),
        ("cloner.architecture.hidden_widths", [8, 16]),
        ("scoring.choose", "drawn"),
        ("scoring.detection.term", "direction"),
        ("scoring.forward_map.quantity", "both"),
        ("scoring.forward_map.normalisation", "position"),
        ("scoring.gradient_map.normalisation", "position"),
    ],
)
def test_what_predicted_otherwise_is_refused(settings, place, value):
    with pytest.raises(InputError, match=rf"^it predicts by {place}={re.escape(str(value))} \("):
        MkdSettings.of_kept(changed(_kept(settings()), place, value))
