"""What holds for a detector of any system, whatever it learns and says."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from kdad.compute import Compute
from kdad.detectors import load
from kdad.detectors.detector import Detector, Outputs, TrainContext
from kdad.detectors.evaluation import extract_features
from kdad.detectors.exported.detector import open_exported, write_exported
from kdad.detectors.exported.writing import VerificationImages, drawn, export_detector
from kdad.detectors.opening import open_detector
from kdad.detectors.predictor import Prediction
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.networks.weights import load_source
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore
from memory_images import PARTS, MemoryImages, labelled_bars, split_of
from projects import PROJECT

pytestmark = pytest.mark.filterwarnings("ignore:n_neighbors .20. is greater than the total number of samples")

_SOURCE, _TRANSFORMER = "timm:test_resnet", "timm:test_vit"
_WEIGHTS = "weights.safetensors"  # of the source, in the folder where detectors are made
_RANDOM = {"name": _SOURCE, "weights": "random"}
_TOLERANCE = 1e-5  # of the spread
#: SSIM is a quotient of differences of squares, which in float32 magnify the rounding of a batch.
_SSIM_TOLERANCE = 1e-3
#: Where a ReLU or a max-pool is at its kink, rounding decides whether the gradient of a few pixels passes.
_WITH_KINKS, _CLEAR_OF_KINKS = ("gradients", "guided_backprop", "smooth_grad", "integrated_gradients"), 0.95


def _baselines() -> dict[str, dict[str, Any]]:
    """Return every method of the configuration, sized for tests."""
    base, small = (
        yaml.safe_load((PROJECT / "conf" / path).read_text())["baselines"]
        for path in ("base/parameters/baselines.yml", "test/parameters.yml")
    )
    methods = {}
    for name, method in base["methods"].items():
        over = small["methods"].get(name, {}).get("options", {})
        methods[name] = method | {"options": method.get("options", {}) | over}
    return methods


def _baseline(name: str, **own: Any) -> dict[str, Any]:
    methods = {name: _baselines()[name]}
    source = {"name": _SOURCE, "weights": _WEIGHTS}
    return {"source": source, "features": {}, "baselines": {"methods": methods, **own}}


def _students(fields: list[int], descriptors: str, *localisation: str, **students: Any) -> dict[str, Any]:
    training = {"epochs": 1, "batch_size": 4}
    dense = {"crop_size": -(-max(fields) // 16) * 16, "enlargement": 1, "crops_per_epoch": 8, "validation_crops": 2}
    dense["training"] = {"epochs": 1, "batch_size": 4}
    teacher = {"depth": 6, "width": 0.05, "source": _RANDOM, "distillation": "dense", "dense": dense}
    own = {"receptive_fields": fields, "count": 2, "descriptors": descriptors, "training": training, **students}
    return {
        "teacher": {**teacher, "training": {"epochs": 1, "batch_size": 4}},
        "students": own,
        "student_scoring": {"localisation": localisation, "smoothing": {name: {} for name in localisation}},
    }


def _mkd(*localisation: str, **scoring: Any) -> dict[str, Any]:
    smoothing = {name: {"gaussian_sigma": 1.0} for name in localisation}
    maps = {
        "gradient_map": {"smooth_grad_samples": 2, "integrated_gradients_steps": 2, "batch_size": 4},
        "forward_map": {"fusion": "sum"},
    }
    return {
        "source": {"name": _SOURCE, "weights": _WEIGHTS},
        "features": {"batch_size": 5},
        "cloner": {"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 20, "learning_rate": 0.01}},
        "scoring": {"localisation": localisation, "smoothing": smoothing, **maps, **scoring},
    }


def _stfpm(**own: Any) -> dict[str, Any]:
    training = {"epochs": 5, "batch_size": 4, "optimiser": "sgd", "learning_rate": 0.1}
    return {"stfpm": {"source": _RANDOM, "points": "first 3", "training": training, **own}}


def _reverse(**own: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 4}
    return {"reverse_distillation": {"source": _RANDOM, "points": "first 3", "training": training, **own}}


def _efficient_ad(**own: Any) -> dict[str, Any]:
    blocks = _students([33], "cache", "combined")
    training = {"epochs": 1, "batch_size": 4}
    return {"efficient_ad": {"teacher": {**blocks["teacher"], "compactness_weight": 0}, "training": training, **own}}


def _committee(*members: str, **own: Any) -> dict[str, Any]:
    methods = {name: method for name, method in _baselines().items() if name in members}
    return {
        **_mkd("discrepancy"),
        **_stfpm(source={"name": _SOURCE, "weights": _WEIGHTS}, smoothing={"gaussian_sigma": 1.0}),
        **_reverse(source={"name": _SOURCE, "weights": _WEIGHTS}),
        "baselines": {
            "methods": methods or {"unused": {"detector": "memory_bank"}},
            "smoothing": {"gaussian_sigma": 1.5},
        },
        "committee": {"members": list(members)},
        **own,
    }


def _classifiers() -> dict[str, Any]:
    own = {"hidden": 6, "steps": 100, "batch_size": 8, "learning_rate": 0.01}
    networks = {"teacher": {"widths": [4, 6], **own}, "student": {"widths": [2, 4], **own}}
    return {"soft_target": {**networks, "temperature": 2, "temperatures": [1], "alphas": [0.5], "label_counts": [2]}}


def _positions(blocks: dict[str, Any]) -> dict[str, Any]:
    return blocks | {"student_scoring": blocks["student_scoring"] | {"normalisation": "per_pixel"}}


def _through_transformer(blocks: Any) -> Any:
    """Return blocks with the transformer as every source."""
    if not isinstance(blocks, dict):
        return _TRANSFORMER if blocks == _SOURCE else blocks
    return {name: _through_transformer(value) for name, value in blocks.items()}


_MAPS = ("combined", "regression_error", "predictive_variance", "combined_p17", "combined_p33")
#: Name, system, settings; the images of soft targets have so many channels as the name says.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mkd_discrepancy": ("mkd", _mkd("discrepancy")),
    "mkd_not_standardised": ("mkd", _mkd("discrepancy", detection={"normalisation": "none"}, forward_map={})),
    "mkd_total_loss": ("mkd", _mkd("discrepancy", "gradients", detection={"score": "total_loss"})),
    "mkd_gradients": ("mkd", _mkd("gradients", "guided_backprop", "smooth_grad", "integrated_gradients")),
    "students_p17": ("uninformed_students", _students([17], "cache", "combined")),
    "students_p17_recompute": ("uninformed_students", _students([17], "recompute", *_MAPS)),
    "students_p17_p33": ("uninformed_students", _students([17, 33], "cache", *_MAPS, output_stride=2)),
    "students_positions": ("uninformed_students", _positions(_students([17], "cache", *_MAPS))),
    "stfpm": ("stfpm", _stfpm()),
    "stfpm_positions": ("stfpm", _stfpm(normalisation="per_pixel", smoothing={"gaussian_sigma": 1.5})),
    "reverse_distillation": ("reverse_distillation", _reverse()),
    "reverse_distillation_odd_sides": ("reverse_distillation", _reverse(normalisation="per_pixel", fusion="sum")),
    "efficient_ad": ("efficient_ad", _efficient_ad()),
    "efficient_ad_odd_sides": ("efficient_ad", _efficient_ad(hard_quantile=0.0, smoothing={"gaussian_sigma": 1.5})),
    "efficient_ad_student_alone": ("efficient_ad", _efficient_ad(autoencoder=False, penalty_weight=0.0)),
    "committee": ("committee", _committee("mkd", "reverse_distillation")),
    "committee_with_baseline": ("committee", _committee("mkd", "position_gaussian")),
    "committee_of_four": ("committee", _committee("memory_bank", "stfpm", "mkd", "reverse_distillation")),
    "committee_of_one": ("committee", _committee("mkd")),
    "soft_target_grey": ("soft_target", _classifiers()),
    "soft_target_colour": ("soft_target", _classifiers()),
    **{f"baselines_{name}": ("baselines", _baseline(name)) for name in _baselines()},
    **{
        f"baselines_positions_{name}": (
            "baselines",
            _baseline(name, normalisation="per_pixel", smoothing={"gaussian_sigma": 1.5}),
        )
        for name in ("position_gaussian", "patch_ocsvm", "l2_autoencoder")
    },
}
CASES |= {
    f"{name}_transformer": (system, _through_transformer(blocks))
    for name in (
        "mkd_total_loss",
        "students_p17",
        "stfpm",
        "reverse_distillation",
        "efficient_ad",
        "committee",
        "baselines_memory_bank",
    )
    for system, blocks in [CASES[name]]
}


def _images_for(name: str) -> ImageSet:
    if name.startswith("soft_target"):
        return labelled_bars(1 if name.endswith("grey") else 3)
    return MemoryImages((34, 45) if "p33" in name or "odd" in name else (32, 48), parts=PARTS * 2)


@dataclass(frozen=True)
class Made:
    """A detector with its threshold, and the images that it was made of."""

    detector: Detector
    feature_set: FeatureSet

    @property
    def images(self) -> torch.Tensor:
        """The scored images, in the size that the detector takes."""
        return torch.from_numpy(
            np.stack([self.feature_set.images.image(int(row)) for row in self.feature_set.split.scored])
        )


def make(name: str, folder: Path, images: ImageSet | None = None) -> Made:
    """Make a detector with all its stores, and the weights that it looks through, in `folder`; `images` are its own."""
    system, blocks = CASES[name]
    if "source" in blocks:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(load_source(blocks["source"]["name"], "random", 3).pyramid.state_dict(), folder / _WEIGHTS)
        source = blocks["source"] | {"weights": str(folder / _WEIGHTS)}
        blocks = blocks | {"source": source}
        blocks |= {
            name: blocks[name] | {"source": source} for name in ("stfpm", "reverse_distillation") if name in blocks
        }
    kind, images = SYSTEMS[system].detector, images or _images_for(name)
    settings = kind.Settings.model_validate(blocks)
    train_context = TrainContext(Compute(torch.device("cpu"), torch.float32), 5, ContentStore(folder / "models"))
    split = split_of(images) if system != "soft_target" else None
    feature_set = kind.prepare_images(settings, FeatureSet(images, split, {}), train_context.split_seed)
    kind.check_inputs(settings, feature_set)
    references = kind.frozen_networks(settings, feature_set, train_context)
    feature_set = extract_features(
        kind, settings, feature_set, references, train_context.compute, ContentStore(folder / "features")
    )
    kind.check(settings, feature_set)
    detector = kind(settings, references, train_context.compute)
    detector.fit(feature_set, train_context)
    validation = _scores(detector, feature_set, feature_set.split.rows("validation"))
    return Made(detector.eval().calibrated(quantile_threshold(validation, 0.5), validation, (0.25, 1.5)), feature_set)


def _scores(detector: Detector, feature_set: FeatureSet, rows: np.ndarray) -> np.ndarray:
    detector.calibrated(quantile_threshold(np.zeros(1), 0.5), np.zeros(1))
    return np.array(
        [found.score for found in detector.predict_batch(feature_set.batch(rows), feature_set.outputs(rows))]
    )


#: Cases of the longest trainings and maps, and all but one or two of a system.
_LONG = {
    *("stfpm_positions", "reverse_distillation_odd_sides", "efficient_ad_odd_sides", "committee_of_four"),
    *("mkd_total_loss", "mkd_not_standardised", "students_p17", "students_p17_recompute", "students_positions"),
    *("efficient_ad_student_alone", "committee_of_one", "committee_with_baseline", "soft_target_grey"),
    *({f"baselines_{name}" for name in _baselines()} - {"baselines_memory_bank", "baselines_nearest_source"}),
    *(f"baselines_positions_{name}" for name in ("patch_ocsvm", "l2_autoencoder")),
    *(f"{name}_transformer" for name in ("students_p17", "efficient_ad", "committee", "baselines_memory_bank")),
    *("stfpm_transformer", "reverse_distillation_transformer"),
}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.long) if name in _LONG else name for name in CASES]
)
def case(request: pytest.FixtureRequest) -> str:
    """The name of a case."""
    return request.param


@pytest.fixture(scope="module")
def folder(case: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all stores of `made` lie."""
    return tmp_path_factory.mktemp(case)


@pytest.fixture(scope="module")
def made(case: str, folder: Path) -> Made:
    """A detector of this case, with its threshold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make(case, folder)
    torch.set_num_threads(before)


def _in_batches(detector: Detector, images: torch.Tensor, outputs: Any, size: int) -> dict[str, np.ndarray]:
    """Return all raw scores and maps by name."""
    found: list[Outputs] = []
    for start in range(0, len(images), size):
        own = slice(start, start + size)
        given = outputs and {name: [output[own] for output in values] for name, values in outputs.items()}
        found.append(detector.maps(images[own], given, [*detector.methods, *detector.needed_methods]))
    names = found[0].scores.keys() | found[0].maps.keys()
    return {name: np.concatenate([(raw.scores | raw.maps)[name] for raw in found]) for name in names}


def _assert_close(found: Any, expected: Any, what: str, tolerance: float = _TOLERANCE) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.std(expected) > 0, f"{what} is the same everywhere"
    # Networks add up in another order in another batch: scores far from 0 have no more digits than float32.
    rounding = 16 * np.finfo(np.float32).eps * np.abs(expected).max()
    allowed = tolerance * np.std(expected) + rounding
    if what in _WITH_KINKS:
        assert np.mean(np.abs(found - expected) <= allowed) > _CLEAR_OF_KINKS, what
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=what)


def _assert_alike(
    found: list[Prediction], expected: list[Prediction], detector: Detector, tolerance: float = _TOLERANCE
) -> None:
    scores = np.array([one.score for one in expected])
    _assert_close([one.score for one in found], scores, "score", tolerance)
    # A score that is a validation one itself, as the threshold is, may fall to either side of it by rounding.
    distances = np.abs(scores[:, None] - detector.validation_scores).min(axis=1)
    clear = np.flatnonzero(distances > tolerance * scores.std())
    assert len(clear) > 4
    for field in ("decision", "percentile"):
        assert [getattr(found[row], field) for row in clear] == [getattr(expected[row], field) for row in clear]
    if detector.methods:
        maps = ([one.map for one in predicted] for predicted in (found, expected))
        _assert_close(*maps, detector.methods[0], tolerance)
    else:
        assert all(one.map is None for one in found)


@pytest.fixture
def tolerance(case: str) -> float:
    """How far apart, of the spread, what is computed in other batches may be."""
    return _SSIM_TOLERANCE if "ssim" in case else _TOLERANCE


def test_kept_outputs_give_what_live_images_give_in_any_batch(made, tolerance):
    rows, images = made.feature_set.split.scored, made.images
    outputs = made.feature_set.outputs(rows)
    expected = _in_batches(made.detector, images, outputs, len(rows))
    for given, size in ((outputs, 5), (None, 1), (None, 7), (None, len(rows))):
        found = _in_batches(made.detector, images, given, size)
        for name in found:
            _assert_close(found[name], expected[name], name, tolerance)


def test_an_image_alone_is_predicted_as_in_a_batch(made, tolerance):
    together = made.detector.predict_batch(made.images)
    assert {found.decision for found in together} == {False, True}
    alone = [made.detector.predict(image) for image in made.images.permute(0, 2, 3, 1).contiguous().numpy()]
    _assert_alike(alone, together, made.detector, tolerance)


def test_fitting_again_with_one_seed_gives_the_same_numbers(case, made, tmp_path):
    again = make(case, tmp_path)
    assert again.detector.key == made.detector.key
    assert again.detector.metadata() == made.detector.metadata()
    state, expected = again.detector.state_dict(), made.detector.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert again.detector.threshold == made.detector.threshold
    np.testing.assert_array_equal(again.detector.validation_scores, made.detector.validation_scores)


def test_a_folder_holds_one_json_and_safetensors_alone(made, tmp_path):
    folder = made.detector.save(tmp_path / "kept")
    assert {path.suffix for path in folder.rglob("*")} == {".json", ".safetensors"}
    facts = json.loads((folder / "detector.json").read_text())
    assert facts["settings"] == made.detector.settings.model_dump(mode="json")
    assert facts["system"] == made.detector.system
    assert [path.name for path in folder.glob("*.json")] == ["detector.json"]


def test_its_graph_says_of_images_what_it_predicts(case, made, tolerance):
    detector = made.detector
    if _cannot_be_exported(case, detector):
        with pytest.raises(InputError, match="cannot be exported; a system can where neither"):
            detector.graph()(made.images)
        return
    with torch.no_grad():
        score, *maps = detector.graph()(made.images)
    expected = detector.predict_batch(made.images)
    _assert_close(score, [one.score for one in expected], "score", tolerance)
    assert len(maps) == bool(detector.methods)
    for found in maps:
        _assert_close(found, [one.map for one in expected], detector.methods[0], tolerance)


@pytest.mark.long
def test_an_exported_file_says_what_it_predicts(case, made, folder, tolerance, tmp_path):
    if _cannot_be_exported(case, made.detector):
        pytest.skip("refused")
    kept = open_detector(made.detector.save(folder / "to_export"), "cpu", "float32")
    images = VerificationImages(drawn(kept.size).images[:4], "drawn")
    write_exported(*export_detector(kept, "float32", images, "onnxruntime", "float32"), tmp_path)
    for runtime in ("onnxruntime", "openvino"):
        predictor = open_exported(tmp_path / "detector.onnx", runtime)
        _assert_alike(predictor.predict_batch(made.images), kept.predict_batch(made.images), kept, 10 * tolerance)


def _cannot_be_exported(case: str, detector: Detector) -> bool:
    costly = bool(detector.methods) and detector.is_costly(detector.methods[0])
    return costly or case == "baselines_ssim_autoencoder" or (case.startswith("baselines") and not detector.methods)


# The last of a case: it deletes what made the detector.
def test_a_loaded_detector_says_the_same_wherever_it_lies_and_without_what_made_it(made, folder, tmp_path):
    images, detector = made.images, made.detector
    expected, maps = detector.predict_batch(images), _in_batches(detector, images, None, 32)
    kept = detector.save(folder / "kept")
    _assert_alike(load(kept, "cpu").predict_batch(images), expected, detector)
    shutil.copytree(kept, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    loaded = load(tmp_path / "elsewhere", "cpu")
    _assert_alike(loaded.predict_batch(images), expected, detector)
    for name, values in _in_batches(loaded, images, None, 32).items():
        _assert_close(values, maps[name], name)
    assert (loaded.key, loaded.size) == (detector.key, detector.size)
    assert (loaded.threshold, loaded.colour_limits) == (detector.threshold, (0.25, 1.5))
    np.testing.assert_array_equal(loaded.validation_scores, detector.validation_scores)


def test_a_held_out_image_has_no_part_in_what_is_said_of_others(case, made, tmp_path):
    images, validation = _images_for(case), made.feature_set.split.rows("validation")[1]
    if isinstance(images, MemoryImages):
        images.pixels[validation] = 1 - images.pixels[validation] ** 2
    else:
        training, _ = images.parts
        number = int(made.feature_set.split.name(validation).partition("/")[2])
        training.pixels[number] = 255 - training.pixels[number] // 2
    other = make(case, tmp_path / "other", images)
    assert not np.array_equal(
        other.feature_set.images.image(int(validation)), made.feature_set.images.image(int(validation))
    )
    rows = np.array([row for row in made.feature_set.split.scored if row != validation])
    methods = made.detector.needed_methods
    # By kept outputs, batch by batch, as a run scores them.
    before, after = (
        one.detector.maps(one.feature_set.batch(rows), one.feature_set.outputs(rows), methods) for one in (made, other)
    )
    for of_all in ("scores", "maps"):
        for name, values in getattr(before, of_all).items():
            np.testing.assert_array_equal(getattr(after, of_all)[name], values, err_msg=name)
