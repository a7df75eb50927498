"""A validation image sets the threshold, and has no part in what is said of any other: on the whole road of a run.

The files have 16 bits, so that their range of values is found on images, too.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.compute import Compute
from kdad.detectors.evaluation import map_images
from kdad.detectors.registry import SYSTEMS
from kdad.experiments import steps
from kdad.features.extraction import FeatureSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_samples, table_of
from kdad.parameters.dataset import DatasetParameters
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.smoothing import smooth_all
from kdad.storage.content_store import Stores

SEED = 3
_SOURCE = {"name": "timm:test_resnet", "weights": "random"}
_CLONER = {"architecture": {"hidden_width": 4}, "training": {"epochs": 2, "batch_size": 4}}
_FEW_STEPS = {"epochs": 1, "batch_size": 4}
_DENSE = {"crop_size": 17, "enlargement": 1, "crops_per_epoch": 8, "validation_crops": 2, "training": _FEW_STEPS}
_AUTOENCODER = {"depth": 3, "width": 4, "latent": 4, "epochs": 2, "batch_size": 4}


def _mkd(**scoring: Any) -> tuple[str, dict[str, Any]]:
    return "mkd", {"source": _SOURCE, "features": {}, "cloner": _CLONER, "scoring": scoring}


def _stfpm(**own: Any) -> tuple[str, dict[str, Any]]:
    return "stfpm", {"stfpm": {"source": _SOURCE, "points": "first 3", "training": _FEW_STEPS, **own}}


def _reverse(**own: Any) -> tuple[str, dict[str, Any]]:
    return "reverse_distillation", {"reverse_distillation": {"source": _SOURCE, "training": _FEW_STEPS, **own}}


def _efficient_ad() -> tuple[str, dict[str, Any]]:
    teacher = {
        "depth": 6,
        "width": 0.05,
        "source": _SOURCE,
        "distillation": "dense",
        "dense": _DENSE | {"crop_size": 33},
    }
    return "efficient_ad", {"efficient_ad": {"teacher": teacher, "training": _FEW_STEPS}}


def _students(**scoring: Any) -> tuple[str, dict[str, Any]]:
    teacher = {"depth": 6, "width": 0.05, "source": _SOURCE, "distillation": "dense", "dense": _DENSE}
    students = {"receptive_fields": [17], "count": 2, "training": _FEW_STEPS}
    return "uninformed_students", {"teacher": teacher, "students": students, "student_scoring": scoring}


def _baseline(method: dict[str, Any], **own: Any) -> tuple[str, dict[str, Any]]:
    methods = {"method": method}
    return "baselines", {"source": _SOURCE, "features": {}, "baselines": {"methods": methods, **own}}


def _committee() -> tuple[str, dict[str, Any]]:
    methods = {"position_gaussian": {"detector": "position_gaussian"}}
    _, blocks = _mkd()
    return "committee", blocks | {"stfpm": {}, "baselines": {"methods": methods}, "committee": {}}


#: What is not named is as it is shipped.
CASES = {
    "mkd": _mkd(),
    "mkd_not_standardised": _mkd(detection={"normalisation": "none"}),
    "mkd_total_loss": _mkd(detection={"score": "total_loss"}),
    "stfpm": _stfpm(),
    "stfpm_position": _stfpm(normalisation="per_pixel", smoothing={"gaussian_sigma": 1.5}),
    "reverse_distillation": _reverse(),
    "reverse_distillation_position": _reverse(normalisation="per_pixel"),
    "efficient_ad": _efficient_ad(),
    "students": _students(),
    "students_position": _students(normalisation="per_pixel"),
    "nearest_source": _baseline({"detector": "knn", "representation": "source", "options": {"n_neighbors": 1}}),
    "pca_reconstruction": _baseline({"detector": "pca_reconstruction", "representation": "pixels"}),
    "kde_pca": _baseline({"detector": "kde", "representation": "pca"}),
    "memory_bank": _baseline({"detector": "memory_bank"}),
    "position_gaussian": _baseline({"detector": "position_gaussian"}),
    "position_gaussian_position": _baseline({"detector": "position_gaussian"}, normalisation="per_pixel"),
    "patch_ocsvm_position": _baseline({"detector": "patch_ocsvm"}, normalisation="per_pixel"),
    "l2_autoencoder": _baseline({"detector": "l2_autoencoder", "options": _AUTOENCODER}),
    "committee": _committee(),
}


@pytest.fixture
def root(tmp_path) -> Path:
    """Twelve good images of 32 x 32 pixels, half of which are held out; three good and three others are tested."""
    generator, root = np.random.default_rng(0), tmp_path / "parts"
    for place, count in (("train/good", 12), ("test/good", 3), ("test/hole", 3)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(1000, 3000, (32, 32)).astype(np.uint16)
            if place == "test/hole":
                pixels[8:20, 8:20] = 1000
            Image.fromarray(pixels).save(root / place / f"{number:02d}.png")
    return root


def predict(case: str, root: Path, stores: Path) -> tuple[Split, dict[str, np.ndarray]]:
    """Walk the road of a run; return the split, and by name the scores `(N,)` and smoothed maps `(N, H, W)`."""
    system, blocks = CASES[case]
    detector = SYSTEMS[system].detector
    settings = detector.Settings.model_validate(blocks)
    dataset = DatasetParameters(name="folder", root=str(root), image_size=32)
    images = open_image_set(dataset, SEED)
    split = Split(table_of(images, split_samples(images.samples, dataset.validation_fraction, SEED)))
    compute = Compute(torch.device("cpu"), torch.float32)
    context = steps.RunContext(compute, Stores.below(stores), MeasuringParameters(), SEED)
    place = context.train_context()
    feature_set, frozen = steps.prepare_frozen(detector, settings, FeatureSet(images, split, {}), place)
    feature_set = steps.extract_features(detector, settings, feature_set, frozen, context)
    made, _ = steps.fit_detector(detector, settings, feature_set, frozen, place)
    cheap = [method for method in made.methods if not made.is_costly(method)]
    raw = map_images(made, feature_set, cheap, context.cases)
    smoothed = {name: smooth_all(stack, made.smoothing(name)) for name, stack in raw.stacks.items()}
    scores, _ = steps.decide(made, split, raw.scores, smoothed, context.measuring)
    numbers = {name: scores[name].to_numpy() for name in ("score", *(name for name in raw.scores if name != "row"))}
    return split, numbers | {f"{name} map": found for name, found in smoothed.items()}


def by_default(root: Path) -> list[str]:
    """Return of which part each image would be by the default seed, which is not the run's."""
    images = open_image_set(DatasetParameters(name="folder", root=str(root), image_size=32))
    return split_samples(images.samples, "auto", 0)


def brighten(root: Path, name: str) -> None:
    """Make an image ten times brighter."""
    pixels = np.asarray(Image.open(root / name)).astype(np.uint16)
    Image.fromarray(10 * pixels).save(root / name)


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", CASES)
def test_a_held_out_file_ten_times_brighter_changes_nothing_of_others_and_one_that_trains_does(case, root, tmp_path):
    split, before = predict(case, root, tmp_path / "before")
    assert [len(split.rows(part)) for part in ("train", "validation", "test")] == [6, 6, 6]
    otherwise = by_default(root)
    validation = next(n for n, row in enumerate(split.rows("validation")) if otherwise[row] == "train")
    brighten(root, split.name(split.rows("validation")[validation]))
    _, after = predict(case, root, tmp_path / "after")
    assert after.keys() == before.keys()
    for name, found in after.items():
        # Validation images come first.
        assert not np.array_equal(found[validation], before[name][validation]), name
        others = (np.delete(values, validation, axis=0) for values in (found, before[name]))
        np.testing.assert_array_equal(*others, err_msg=name)
    brighten(root, split.name(split.rows("train")[2]))
    _, moved = predict(case, root, tmp_path / "moved")
    assert not np.isclose(moved["score"], after["score"], rtol=1e-5, atol=0).any()
