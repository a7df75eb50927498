"""A detector's JSON changed in any way: an error that names it."""

import json

import numpy as np
import pytest

from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.scoring.threshold import quantile_threshold
from malformed.other_files import DETECTOR_CHANGES

_NAME = "timm:test_resnet"


@pytest.fixture
def folder(fit, tmp_path):
    """A saved detector."""
    settings = MkdSettings(
        source={"name": _NAME, "weights": "random"},
        features={},
        cloner={"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 1, "batch_size": 4}},
        scoring={
            "localisation": ["discrepancy"],
            "smoothing": {"discrepancy": {}},
            "detection": {},
            "forward_map": {},
            "gradient_map": {},
        },
    )
    detector, _, _ = fit(MkdDetector, settings)
    detector.record = {"dataset": "memory"}
    detector.calibrated(quantile_threshold(np.arange(4.0), 0.5), np.arange(4.0), (0.0, 1.0))
    return detector.save(tmp_path / "saved/detector")


def test_a_detector_whose_json_was_changed_in_any_way_is_named(folder):
    path = folder / "detector.json"
    whole = path.read_text()
    open_detector(folder, "cpu").predict(np.zeros((40, 40), np.uint8))
    for name, change in DETECTOR_CHANGES.items():
        facts = json.loads(whole)
        change(facts)
        path.write_text(json.dumps(facts))
        with pytest.raises(InputError) as caught:
            open_detector(folder, "cpu")
        assert str(folder) in str(caught.value), name


def test_a_detector_that_was_made_up_is_an_error_or_predicts_but_never_a_traceback(folder):
    """Its own hash keeps accidents away, not someone who computes it anew."""
    path = folder / "detector.json"
    whole = path.read_text()
    for name, change in DETECTOR_CHANGES.items():
        facts = json.loads(whole) | {"sha256": ""}
        change(facts)
        path.write_text(json.dumps(facts))
        try:
            open_detector(folder, "cpu").predict(np.zeros((40, 40), np.uint8))
        except InputError as error:
            assert str(error), name
