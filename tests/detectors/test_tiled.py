"""Large images by tiles: as the whole image where that can be, whatever the tiles are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from kdad.compute import Compute
from kdad.detectors.detector import Detector, FitResult, Outputs
from kdad.detectors.predictor import TiledThreshold, find_tiled, put_tiled
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError
from kdad.features.network import NetworkReference
from kdad.images.files.fitting import Preparation, Region
from kdad.images.tiling import Tiling
from kdad.parameters.strict import StrictModel
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.threshold import quantile_threshold

#: Three layers of 3 x 3: a pixel of the map sees 3 pixels to each side.
REACH = 3
HELD_OUT = np.array([0.1, 0.2, 0.3, 0.4])


class _Settings(StrictModel):
    rule: str = "map_top_mean"
    sigma: float = 0.0
    maps: bool = True


class _Convolutions(Detector):
    """Three convolutions that pad with zeros, and nothing else: no position means anything."""

    system, Settings, Reference = "convolutions", _Settings, NetworkReference

    def __init__(self, settings, references, compute):
        super().__init__(settings, references, compute)
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(*channels, 3, padding=1) for channels in ((3, 4), (4, 4), (4, 1))]
        self.network = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])

    @classmethod
    def frozen_networks(cls, settings, feature_set, train_context):
        return {}

    def fit(self, seen, train_context):
        return FitResult(None, 0.0, False)

    def state_dict(self):
        return {}

    def metadata(self):
        return {}

    def load_state(self, state, facts):
        pass

    def maps(self, images, outputs=None, methods=None):
        found = self.network(images)[:, 0]
        return Outputs({"mean": images.mean((1, 2, 3))}, dict.fromkeys(self.methods, found))

    @property
    def methods(self):
        return ["map"] if self.settings.maps else []

    @property
    def image_score(self):
        return ImageScore("mean" if self.settings.rule == "raw" else "map", self.settings.rule, 0.05)

    def smoothing(self, method):
        return SmoothingParameters(gaussian_sigma=self.settings.sigma)


def _detector(size=(32, 32), **settings):
    detector = _Convolutions(_Settings(**settings), {}, Compute(torch.device("cpu"), torch.float32)).eval()
    detector.size = size
    return detector.calibrated(quantile_threshold(HELD_OUT, 0.5), HELD_OUT)


def _predict(detector, overlap=16, size=None, batch_size=3):
    threshold = quantile_threshold(HELD_OUT + 1, 0.5)
    known = TiledThreshold(
        size=size or detector.size,
        overlap=overlap,
        threshold=threshold,
        validation_scores=(HELD_OUT + 1).tolist(),
        pixels=(100, 100),
        calibrated_on="here",
    )
    return TiledPredictor(detector, known, batch_size)


@pytest.fixture
def image():
    return np.random.default_rng(0).random((83, 101, 3)).astype(np.float32)


def _whole(detector, image):
    """Return the map that the detector would make of an image of any size, had it been made for that."""
    with torch.no_grad():
        return detector.network(torch.from_numpy(image.transpose(2, 0, 1))[None])[0, 0].numpy()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_where_a_quarter_of_the_overlap_is_the_reach_the_map_is_that_of_the_whole_image(image, batch_size):
    detector = _detector()
    found = _predict(detector, overlap=4 * REACH, batch_size=batch_size).predict(image)
    np.testing.assert_allclose(found.map, _whole(detector, image), atol=1e-5)


def test_with_less_overlap_it_differs_within_the_reach_of_a_border_alone(image):
    detector = _detector()
    difference = np.abs(_predict(detector, overlap=2).predict(image).map - _whole(detector, image))
    near = np.zeros(difference.shape, bool)
    for length, axis in ((83, 0), (101, 1)):
        count = int(np.ceil((length - 2) / 30))
        starts = np.rint(np.linspace(0, length - 32, count)).astype(int)
        for border in [*starts[1:], *(starts[:-1] + 32)]:
            part = [slice(None), slice(None)]
            part[axis] = slice(border - REACH, border + REACH)
            near[tuple(part)] = True
    assert difference[~near].max() < 1e-5 < difference[near].max()


def test_smoothing_runs_over_the_blended_map(image):
    detector = _detector(sigma=2.0)
    expected = ndimage.gaussian_filter(_whole(detector, image), 2.0, mode="reflect")
    found = _predict(detector).predict(image)
    np.testing.assert_allclose(found.map, expected, atol=1e-5)


def test_the_score_is_of_as_many_pixels_as_one_tile_has(image):
    detector = _detector()
    found = _predict(detector).predict(image)
    count = round(0.05 * 32 * 32)
    assert found.score == pytest.approx(np.sort(found.map, axis=None)[-count:].mean(), rel=1e-6)
    highest = _predict(_detector(rule="map_maximum")).predict(image)
    assert highest.score == highest.map.max()


def test_the_tiled_threshold_and_its_images_decide_and_rank(image):
    detector = _detector(rule="map_maximum")
    found = _predict(detector).predict(image)
    assert found.threshold == 1.3  # the third of 1.1, 1.2, 1.3 and 1.4: ceil(5 / 2)
    assert found.decision == (found.score > 1.3)
    assert found.percentile == (found.score > HELD_OUT + 1).mean()


@pytest.mark.parametrize("shape", [(32, 32), (20, 32), (9, 7)])
def test_an_image_that_one_tile_holds_is_predicted_as_ever(image, shape):
    detector, part = _detector(), np.ascontiguousarray(image[: shape[0], : shape[1]])
    tiled, whole = _predict(detector).predict(part), detector.predict(part)
    assert replace(tiled, map=None) == replace(whole, map=None)
    assert tiled.threshold == detector.threshold.value
    np.testing.assert_array_equal(tiled.map, whole.map)


def test_a_raw_score_is_the_most_of_the_tiles(image):
    image[40:72, 60:92] = 1  # within one tile at 23..55 no more than at 46..78
    detector = _detector(rule="raw")
    found = _predict(detector, overlap=0).predict(image)
    starts = [np.rint(np.linspace(0, length - 32, np.ceil(length / 32).astype(int))) for length in (83, 101)]
    tiles = [image[int(top) : int(top) + 32, int(left) : int(left) + 32] for top in starts[0] for left in starts[1]]
    assert found.score == pytest.approx(max(tile.mean() for tile in tiles), rel=1e-5)
    assert _predict(_detector(rule="raw", maps=False), overlap=0).predict(image).map is None


def test_tiles_of_another_size_are_resized_and_their_maps_come_back(image):
    detector = _detector(rule="map_maximum", sigma=1.0)
    smooth_image = ndimage.gaussian_filter(image, (6, 6, 0))
    smooth_image = (smooth_image - smooth_image.min()) / np.ptp(smooth_image)
    found = _predict(detector, overlap=32, size=(64, 64)).predict(smooth_image)
    assert found.map.shape == (83, 101)
    # The same at half the size, away from the image's border, where what pads is another size too.
    small = np.stack(
        [np.asarray(Image.fromarray(smooth_image[..., i]).resize((50, 41), Image.Resampling.BOX)) for i in range(3)], -1
    )
    expected = ndimage.zoom(ndimage.gaussian_filter(_whole(detector, small), 1.0), (83 / 41, 101 / 50), order=1)
    inner = (slice(16, -16), slice(16, -16))
    assert np.corrcoef(found.map[inner].ravel(), expected[inner].ravel())[0, 1] > 0.99


def test_a_tile_that_is_not_finite_is_not_lost(image):
    image[50, 50] = np.nan
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    score, found = _predict(_detector(rule="raw")).score_and_map(planes)
    assert np.isnan(score) and np.isnan(found[50, 50]) and np.isfinite(found[0, 0])


def test_files_of_all_sizes(tmp_path, image):
    Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / "large.png")
    Image.fromarray((image[:20, :25] * 255).astype(np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    predictor = _predict(_detector())
    large, small, broken = predictor.predict_files([tmp_path / f"{name}.png" for name in ("large", "small", "broken")])
    assert large.prediction.map.shape == large.image.shape[1:] == (83, 101)
    assert large.placement is None and large.problem is None
    assert small.prediction.map.shape == (32, 32) and small.placement.own == (20, 25)
    assert broken.prediction is None and "broken.png: cannot be read" in broken.problem


def test_thresholds_are_found_by_their_tiles():
    known = _predict(_detector()).found
    other = known.model_copy(update={"overlap": 8})
    assert find_tiled([known, other], Tiling((32, 32), 8)) is other
    assert find_tiled([known], Tiling((32, 32), 8)) is None
    newer = other.model_copy(update={"calibrated_on": "there"})
    assert put_tiled([known, other], newer) == [known, newer]


def test_a_batch_of_no_image_is_refused_at_once(image):
    for size in (0, -1, 2.5, None):
        with pytest.raises(InputError, match=f"batch_size is {size}; give a whole number from 1 on"):
            _detector().predict_files([], size)
        with pytest.raises(InputError, match=f"batch_size is {size}; give a whole number from 1 on"):
            _predict(_detector(), batch_size=size)


# --- A region: what lies outside changes nothing, and tiles outside of it are not looked at.

_INSIDE = np.indices((83, 101))[1] < 46


def _regional(detector, inside=_INSIDE):
    detector.preparation = Preparation(region=Region.of(inside))
    return detector


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_of_a_region_the_map_is_that_of_the_whole_image_and_its_pixels_alone_are_scored(image, sigma):
    detector = _regional(_detector(sigma=sigma))
    looked_at = []
    detector.maps = lambda tiles, *more: looked_at.append(len(tiles)) or _Convolutions.maps(detector, tiles, *more)
    found = _predict(detector, overlap=4 * REACH).predict(image)
    grey = np.where(_INSIDE[..., None], image, np.float32(0.5))
    whole = _whole(detector, grey)
    expected = ndimage.gaussian_filter(whole, sigma, mode="reflect") if sigma else whole
    np.testing.assert_allclose(found.map[_INSIDE], expected[_INSIDE], atol=1e-5)
    assert (found.map[~_INSIDE] == found.map[_INSIDE].min()).all()
    count = round(0.05 * 32 * 32)
    assert found.score == pytest.approx(np.sort(found.map[_INSIDE])[-count:].mean(), rel=1e-6)
    # Columns start at 0, 17, 34, 52 and 69: three of five, and the fourth where smoothing's reach is 16.
    assert sum(looked_at) == 4 * (4 if sigma else 3)
    other = np.where(_INSIDE[..., None], image, np.random.default_rng(1).random(image.shape).astype(np.float32))
    again = _predict(detector, overlap=4 * REACH).predict(other)
    assert again.score == found.score
    np.testing.assert_array_equal(again.map, found.map)
    with pytest.raises(InputError, match="the image is 83 x 100, and the region that counts 83 x 101"):
        _predict(detector).predict(image[:, :100])


def test_of_a_small_region_no_other_pixel_is_scored_and_a_raw_score_is_of_its_tiles(image):
    few = np.zeros(image.shape[:2], bool)
    few[60:63, 50:53] = True  # fewer than a twentieth of a tile's pixels
    found = _predict(_regional(_detector(), few)).predict(image)
    assert found.score == pytest.approx(np.sort(found.map[few])[-1:].mean())  # round(0.05 * 9) is none: the highest
    bright = np.where(few[..., None], np.float32(0.1), np.float32(0.9)) + 0 * image
    # Tiles lie apart, so that one alone holds the region: grey but for nine pixels.
    raw = _predict(_regional(_detector(rule="raw", sigma=9.0), few), overlap=0).predict(bright)
    share = 9 / 32**2
    assert raw.score == pytest.approx(0.5 * (1 - share) + 0.1 * share, rel=1e-5)


def test_ignored_pixels_have_the_lowest_value_of_the_others():
    detector, generator = _detector(sigma=1.0), np.random.default_rng(2)
    images = torch.from_numpy(generator.random((3, 3, 32, 32)).astype(np.float32))
    ignored, everything = np.indices((32, 32))[0] < 20, np.ones((32, 32), bool)
    with torch.no_grad():
        scores, maps = detector.score_and_map(images, None, [ignored, None, everything])
        plain_scores, plain = detector.score_and_map(images)
    np.testing.assert_array_equal(maps["map"][1:], plain["map"][1:])
    np.testing.assert_array_equal(scores[1:], plain_scores[1:])
    first = maps["map"][0].numpy()
    np.testing.assert_array_equal(first[~ignored], plain["map"][0].numpy()[~ignored])
    assert (first[ignored] == first[~ignored].min()).all()
    assert scores[0].item() == pytest.approx(np.sort(first[~ignored])[-round(0.05 * 32 * 32) :].mean(), rel=1e-6)
