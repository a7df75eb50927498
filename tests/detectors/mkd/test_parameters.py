"""Settings of detectors that an earlier version kept."""

import pytest

from kdad.detectors.mkd.parameters import MkdSettings
from kdad.errors import InputError

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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda blocks: blocks["cloner"].update(count=3), "count=3"),
        (lambda blocks: blocks["cloner"]["architecture"].update(hidden_widths=[8, 16]), r"hidden_widths=\[8, 16\]"),
        (lambda blocks: blocks["scoring"].update(choose="drawn"), "choose=drawn"),
        (lambda blocks: blocks["scoring"]["detection"].update(term="direction"), "term=direction"),
        (lambda blocks: blocks["scoring"]["forward_map"].update(quantity="both"), "quantity=both"),
        (lambda blocks: blocks["scoring"]["forward_map"].update(normalisation="per_pixel"), "normalisation=per_pixel"),
        (lambda blocks: blocks["scoring"]["gradient_map"].update(normalisation="per_pixel"), "normalisation=per_pixel"),
    ],
)
def test_what_judged_otherwise_is_refused(settings, change, named):
    blocks = _kept(settings())
    change(blocks)
    with pytest.raises(InputError, match=f"it judges by {named}, which this version has not"):
        MkdSettings.of_kept(blocks)
