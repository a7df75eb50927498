"""Training from Python: the same road as a run, by the same defaults."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import kdad
from kdad.detectors.predictor import TiledThreshold
from kdad.detectors.registry import SYSTEMS
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import InputError

_SMALL = {
    "source": {"name": "timm:test_resnet", "weights": "random"},
    "cloner": {"architecture": {"hidden_width": 4}, "training": {"epochs": 2, "batch_size": 4}},
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Twelve good images that train or set the threshold, four good and four defective ones that are tested."""
    root, generator = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for place, count in (("train/good", 12), ("test/good", 4), ("test/hole", 4)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(90, 110, (40, 40, 3)).astype(np.uint8)
            if place == "test/hole":
                pixels[10:25, 10:25] = 255
            Image.fromarray(pixels).save(root / place / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def fitted(parts):
    return kdad.fit(parts, image_size=32, **_SMALL)


def test_a_detector_predicts_tells_its_metrics_and_is_kept(fitted, parts, tmp_path):
    assert fitted.system == "mkd"
    assert fitted.threshold.normal_images == 6  # half of twelve
    assert fitted.metrics["image_auroc"] == 1.0  # a white hole in grey noise
    predicted = fitted.predict(parts / "test/hole/0.png")
    assert predicted.map.shape == (32, 32)
    kept = kdad.load(fitted.save(tmp_path / "kept"))
    assert kept.predict(parts / "test/hole/0.png").score == pytest.approx(predicted.score, rel=1e-5)
    assert kept.record["training_images"] == 6


def test_the_same_seed_gives_the_same_detector(fitted, parts):
    again = kdad.fit(parts, image_size=32, **_SMALL)
    assert again.threshold == fitted.threshold
    assert (again.metrics, again.key) == (fitted.metrics, fitted.key)


def test_with_stores_nothing_is_trained_twice(parts, tmp_path, monkeypatch):
    first = kdad.fit(parts, image_size=32, stores=tmp_path, **_SMALL)
    monkeypatch.setattr("kdad.detectors.mkd.detector.train_cloner", lambda *_: 1 / 0)
    assert kdad.fit(parts, image_size=32, stores=tmp_path, **_SMALL).threshold == first.threshold


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"system": "mdk"}, "there is no system 'mdk'; did you mean 'mkd'"),
        ({"clonr": {}}, "mkd has no parameter block 'clonr'; did you mean 'cloner'"),
        ({"cloner": {"training": {"epochs": 0}}}, r"cloner\.training\.epochs"),
        ({"image_size": 2}, "image_size is a number of pixels"),
        ({"category": "nut"}, "nut"),
    ],
)
def test_what_cannot_be_used_is_one_message_before_training(parts, given, message):
    with pytest.raises(InputError, match=message):
        kdad.fit(parts, **given)


def test_nodes_cases_and_python_walk_the_same_steps(parts, tmp_path):
    from kdad.compute import choose_compute
    from kdad.experiments.case import Case
    from kdad.experiments.run import run_case
    from kdad.experiments.steps import RunContext
    from kdad.features.extraction import FeatureSet
    from kdad.images.registry import open_image_set
    from kdad.images.splits import Split, split_samples, table_of
    from kdad.parameters.dataset import DatasetParameters
    from kdad.scoring.parameters import MeasuringParameters
    from kdad.storage.content_store import Stores

    images = open_image_set(DatasetParameters(name="folder", root=str(parts), image_size=32))
    split = Split(table_of(images, split_samples(images.samples, "auto", 0)))
    settings = SYSTEMS["mkd"].Settings.model_validate({"features": {}, "scoring": {}} | _SMALL)
    case = Case("axis", "variant", images.category, 0, "mkd", settings, {})
    context = RunContext(choose_compute(), Stores.below(tmp_path), MeasuringParameters(), 0)
    result = run_case(case, FeatureSet(images, split, {}), context)
    python = kdad.fit(parts, image_size=32, **_SMALL)
    assert result.threshold == python.threshold.value
    assert result.metrics["image_auroc"] == python.metrics["image_auroc"]
    assert result.metrics["pixel_auroc"] == python.metrics["pixel_auroc"]
    assert len(pd.Series(result.scores)) == 8


# --- A region: what lies outside changes nothing.

_UPPER = np.indices((48, 64))[0] < 36


def _regional(root, outside: int, wide: bool = False):
    """Write images that are the same in their upper rows, whatever lies outside; return the folder."""
    inside, below = np.random.default_rng(0), np.random.default_rng(outside)
    for place, count in (("train/good", 8), ("test/good", 4), ("test/hole", 4)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            pixels = inside.integers(90, 110, (48, 64)) * (20 if wide else 1)
            if place == "test/hole":
                pixels[10:30, 10:25] = 2400 if wide else 180
            noise = below.integers(0, 60_000 if wide else 256, pixels.shape)
            kept = np.where(_UPPER, pixels, noise).astype(np.uint16 if wide else np.uint8)
            Image.fromarray(kept).save(root / place / f"{number}.png")
    for number in range(4):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 10:25] = 255
        mask[40:, outside % 7 :] = 255  # beyond the region it may mark what it likes
        (root / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / f"ground_truth/hole/{number}_mask.png")
    Image.fromarray(_UPPER.astype(np.uint8) * 255).save(root / "region.png")
    return root


@pytest.mark.parametrize(
    ("system", "fit", "wide", "blocks"),
    [
        ("mkd", "resize", False, _SMALL),
        (
            "stfpm",
            "letterbox",
            True,
            {"stfpm": {"source": _SMALL["source"], "points": "first 2", "training": {"epochs": 1, "batch_size": 4}}},
        ),
    ],
)
def test_pixels_outside_of_a_region_change_nothing(tmp_path, system, fit, wide, blocks):
    roots = [_regional(tmp_path / str(seed), seed, wide) for seed in (1, 2)]
    made = [
        kdad.fit(root, system, image_size=[32, 40], dataset={"region": str(root / "region.png"), "fit": fit}, **blocks)
        for root in roots
    ]
    first, second = made
    assert first.threshold == second.threshold
    assert first.colour_limits == second.colour_limits
    assert first.metrics == second.metrics
    assert first.metrics["pixel_auroc"] > 0.9
    np.testing.assert_array_equal(first.validation_scores, second.validation_scores)
    names = [f"test/{kind}/{number}.png" for kind in ("good", "hole") for number in range(4)]
    kept = kdad.load(second.save(tmp_path / "kept"))
    region = kept.region
    for name in names:
        one, other = first.predict(roots[0] / name), kept.predict(roots[1] / name)
        assert one.score == other.score
        np.testing.assert_array_equal(one.map, other.map)
        assert (one.map[~region] == one.map[region].min()).all()
        assert one.score == first.predict(roots[1] / name).score
    if fit == "resize":
        np.testing.assert_array_equal(region, np.indices((32, 40))[0] < 24)
    with pytest.raises(InputError, match="the image is 40 x 64, and the region that counts 48 x 64"):
        kept.predict(np.zeros((40, 64), np.uint16 if wide else np.uint8))
    Image.fromarray(np.zeros((40, 64), np.uint8)).save(tmp_path / "kept_small.png")
    (predicted,) = kept.predict_files([tmp_path / "kept_small.png"])
    assert predicted.prediction is None


def _assert_same(first, second) -> None:
    """Check that two detectors are one to the last digit, and localise."""
    assert first.threshold == second.threshold
    assert first.metrics == second.metrics
    assert first.metrics["pixel_auroc"] > 0.9
    assert (first.pixel_threshold, first.colour_limits) == (second.pixel_threshold, second.colour_limits)
    for name, tensor in first.state_dict().items():
        np.testing.assert_array_equal(tensor, second.state_dict()[name])


@pytest.mark.long
def test_pixels_outside_of_a_region_change_no_tile(tmp_path):
    roots = [_regional(tmp_path / str(seed), seed) for seed in (1, 2)]
    tiles = {"size": 32, "overlap": 8}
    blocks = _SMALL | {"cloner": {"architecture": {"hidden_width": 4}, "training": {"epochs": 1, "batch_size": 8}}}
    first, second = (
        kdad.fit(root, image_size=32, dataset={"region": str(root / "region.png"), "tiles": tiles}, **blocks)
        for root in roots
    )
    _assert_same(first, second)
    kept = kdad.load(second.save(tmp_path / "kept"))
    known = TiledThreshold(
        **tiles | {"size": (32, 32)},
        threshold=first.threshold,
        validation_scores=[0.0],
        pixels=(1, 1),
        calibrated_on="here",
    )
    for name in ("test/good/0.png", "test/hole/0.png"):
        one, other = (
            TiledPredictor(of, known).predict(root / name) for of, root in zip((first, kept), roots, strict=True)
        )
        assert one.score == other.score
        np.testing.assert_array_equal(one.map, other.map)


def _with_ignored(root, inside_of: int):
    """Write images each with a rectangle of its own that is ignored, whatever lies inside; return the folder."""
    counted, ignored = np.random.default_rng(0), np.random.default_rng(inside_of)
    for place, count in (("train/good", 8), ("test/good", 4), ("test/hole", 4)):
        for folder in (root / place, root / "ignore" / place, root / "ground_truth/hole"):
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = counted.integers(1800, 2200, (48, 64))
            mask, hole = np.zeros((2, 48, 64), dtype=bool)
            top, left = counted.integers(0, 20, 2)
            mask[top : top + 12, left : left + 20] = True
            if place == "test/hole":
                hole[30:45, 40:60] = True
                pixels[hole] = 3600
                # Where pixels are ignored the defect's mask may mark what it likes.
                marked = hole | (mask & (ignored.random(mask.shape) < 0.5))
                Image.fromarray(marked.astype(np.uint8) * 255).save(root / f"ground_truth/hole/{number}_mask.png")
            noise = ignored.integers(0, 60_000, pixels.shape)
            Image.fromarray(np.where(mask, noise, pixels).astype(np.uint16)).save(root / place / f"{number}.png")
            if number % 2 == 0 or place == "test/hole":
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / "ignore" / place / f"{number}.png")
            else:
                Image.fromarray(pixels.astype(np.uint16)).save(root / place / f"{number}.png")
    return root


@pytest.mark.long
def test_pixels_that_are_ignored_change_nothing(tmp_path):
    from kdad.images.registry import open_image_set
    from kdad.parameters.dataset import DatasetParameters

    roots = [_with_ignored(tmp_path / str(seed), seed) for seed in (1, 2)]
    blocks = _SMALL | {"cloner": {"architecture": {"hidden_width": 4}, "training": {"epochs": 1, "batch_size": 4}}}
    first, second = (kdad.fit(root, image_size=[32, 40], **blocks) for root in roots)
    _assert_same(first, second)
    images = open_image_set(DatasetParameters(name="folder", root=str(roots[0]), image_size=[32, 40]))
    assert dict(images.remarks())["ignored"] == (
        "pixels of 4 training, 6 test images, by their masks in 'ignore'; new images have none"
    )


def test_maps_show_nothing_where_pixels_are_ignored():
    from types import SimpleNamespace

    from kdad.experiments.steps import smooth_maps
    from kdad.features.extraction import FeatureSet
    from kdad.scoring.parameters import SmoothingParameters
    from memory_images import MemoryImages, split_of

    images = MemoryImages()
    split = split_of(images)
    tested, left = split.rows("test"), np.indices(images.size)[1] < 6
    images.ignored = lambda row: left if row == tested[-1] else None
    maps = np.random.default_rng(0).random((len(split.scored), *images.size)).astype(np.float32)
    detector = SimpleNamespace(smoothing=lambda _: SmoothingParameters(), region=None)
    raw = {"forward": maps, "costly": maps[-len(tested) :]}  # a costly one has test images alone
    for found, given in zip(
        smooth_maps(detector, FeatureSet(images, split, {}), raw).values(), raw.values(), strict=True
    ):
        np.testing.assert_array_equal(found[:-1], given[:-1])
        np.testing.assert_array_equal(found[-1][:, 6:], given[-1][:, 6:])
        assert (found[-1][left] == given[-1][~left].min()).all()


def test_what_twenty_images_promise_is_what_is_observed(tmp_path):
    """Of four draws; the promise of ten validation images, at the default rule, whose score is standardised."""
    inside = []
    for draw in range(4):
        generator = np.random.default_rng(draw)

        def part(path, generator=generator):
            path.parent.mkdir(parents=True, exist_ok=True)
            y, x = np.mgrid[:32, :32]
            grey = 130 + 40 * np.sin(x / 3 + generator.uniform(0, 0.5)) + generator.normal(0, 6, y.shape)
            Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)

        for number in range(80):
            part(tmp_path / f"{draw}/{'train' if number < 20 else 'test'}/good/{number}.png")
        made = kdad.fit(tmp_path / str(draw), image_size=32, **_SMALL)
        assert (made.threshold.normal_images, made.metrics["test_normal"]) == (10, 60)
        low, high = made.threshold.exceeding_range(60)
        inside.append(low <= round(60 * made.metrics["false_positive_rate"]) <= high)
    assert sum(inside) >= 3
