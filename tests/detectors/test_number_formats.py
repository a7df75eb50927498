"""A detector that was made in bfloat16, opened where it computes in float32: a threshold of its own, or none."""

import json

import numpy as np
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.evaluation import calibrate_float32
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore

_SETTINGS = MkdSettings(
    source={"name": "timm:test_resnet", "weights": "random"},
    features={},
    cloner={"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 2, "batch_size": 4}},
    scoring={"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 1.0}}},
)


@pytest.fixture
def made(fit, tmp_path):
    """A calibrated detector that computes in bfloat16, with its images."""
    train_context = TrainContext(Compute(torch.device("cpu"), torch.bfloat16), 0, ContentStore(tmp_path / "models"))
    detector, seen, _ = fit(MkdDetector, _SETTINGS, train_context=train_context)
    validation = detector.score_and_show(seen.batch(seen.split.rows("validation")))[0]
    return detector.calibrated(quantile_threshold(validation, 0.5), validation), seen


def test_the_threshold_of_float32_is_of_the_scores_in_float32(made, tmp_path):
    detector, seen = made
    calibrate_float32(detector, seen, 0.5)
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu", "float32")
    assert opened.compute.dtype == torch.float32
    scores, _ = opened.score_and_show(seen.batch(seen.split.rows("validation")))
    np.testing.assert_allclose(opened.validation_scores, np.sort(scores), rtol=1e-5)
    assert opened.threshold.value == pytest.approx(np.sort(scores)[2], rel=1e-5)  # the third of four: 5 * 0.5, up
    assert opened.threshold.value != detector.threshold.value
    # In its own format it is as it was.
    own = open_detector(tmp_path / "kept", "cpu", "bfloat16")
    if own.compute.dtype == torch.bfloat16:
        assert own.threshold == detector.threshold
        assert own.in_float32 == detector.in_float32


def test_without_one_it_decides_nothing_and_says_the_command(made, tmp_path, caplog):
    detector, seen = made
    folder = detector.save(tmp_path / "kept")
    opened = open_detector(folder, "cpu", "float32")
    assert opened.threshold is None
    assert "in bfloat16 that does not hold in float32" in caplog.text
    assert f'--params "calibration.detector={folder},calibration.images=FOLDER"' in caplog.text
    with pytest.raises(InputError, match="no threshold"):
        opened.predict_batch(seen.batch(seen.split.rows("test")))


def test_one_that_was_made_in_float32_needs_no_other(fit, train_context, tmp_path):
    detector, seen, _ = fit(MkdDetector, _SETTINGS, train_context=train_context)
    calibrate_float32(detector, seen, 0.5)
    assert detector.float32_twin() is None and detector.in_float32 is None
    facts = json.loads((detector.save(tmp_path / "kept") / "detector.json").read_text())
    assert (facts["precision"], facts["in_float32"]) == ("float32", None)


def test_a_twin_says_what_the_opened_folder_says(made, tmp_path):
    detector, seen = made
    opened = open_detector(detector.save(tmp_path / "kept"), "cpu", "float32")
    images = seen.batch(seen.split.rows("test"))
    np.testing.assert_array_equal(detector.float32_twin().score_and_show(images)[0], opened.score_and_show(images)[0])
