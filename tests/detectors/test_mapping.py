"""A map or a score that is not finite is named, and is never kept as a result."""

import dataclasses

import numpy as np
import pytest

from kdad.detectors.mapping import map_images
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.prediction import Prediction
from kdad.errors import InputError
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore

_SETTINGS = MkdSettings(
    source={"name": "timm:test_resnet", "weights": "random"},
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


def spoil(monkeypatch, call: int, place: int, value: float, part: str) -> None:
    """Have the detector's `call`-th batch, from 0, give `value` for the image at `place`, in its map or its score."""
    real, calls = MkdDetector.maps, []

    def maps(self, *arguments, **named):
        found = real(self, *arguments, **named)
        if len(calls) == call:
            chosen = {name: values.clone() for name, values in getattr(found, part).items()}
            for values in chosen.values():
                values.reshape(len(values), -1)[place, -1] = value
            found = dataclasses.replace(found, **{part: chosen})
        calls.append(part)
        return found

    monkeypatch.setattr(MkdDetector, "maps", maps)
    monkeypatch.setattr(MkdDetector, "batch_size", lambda *_: 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["maps", "scores"])
def test_the_image_whose_map_or_score_is_not_finite_is_named_and_nothing_is_kept(
    fit, tmp_path, monkeypatch, value, part
):
    detector, seen, _ = fit(MkdDetector, _SETTINGS)
    # The 4 validation images come first, four a batch: at place 1 of the second batch is the second test image.
    spoil(monkeypatch, call=1, place=1, value=value, part=part)
    with pytest.raises(InputError, match=rf"' of {seen.split.name(seen.split.rows('test')[1])} is not finite; look at"):
        map_images(detector, seen, ["discrepancy"], ContentStore(tmp_path / "maps"))
    assert list((tmp_path / "maps").iterdir()) == []


def test_an_image_alone_is_not_called_normal_because_nothing_is_larger_than_nan(fit, monkeypatch):
    detector, _, _ = fit(MkdDetector, _SETTINGS)
    detector.calibrated(quantile_threshold(np.arange(4.0), 0.5), np.arange(4.0))
    image = np.zeros((32, 48), np.uint8)
    assert detector.predict(image).not_finite is None
    spoil(monkeypatch, call=0, place=0, value=np.nan, part="maps")
    with pytest.raises(InputError, match="of the image is not finite"):
        detector.predict(image)


@pytest.mark.parametrize(
    ("score", "anomaly_map", "said"),
    [
        (1.0, np.zeros((2, 2)), None),
        (1.0, None, None),
        (np.nan, np.zeros((2, 2)), "score"),
        (np.inf, None, "score"),
        (1.0, np.array([[0.0, np.nan]]), "map"),
        (1.0, np.array([[0.0, -np.inf]]), "map"),
    ],
)
def test_what_of_a_prediction_is_not_finite(score, anomaly_map, said):
    assert Prediction(score, 0.5, False, 0.5, anomaly_map).not_finite == said
