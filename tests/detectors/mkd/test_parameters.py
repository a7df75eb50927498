"""Settings of detectors that an earlier version kept."""

import re

import pytest

from kdad.detectors.mkd.parameters import MkdSettings
from kdad.errors import InputError
from parameter_blocks import changed

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
