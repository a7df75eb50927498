"""Blocks that an earlier version kept: without the parameters that were removed since."""

import copy

import pytest

from kdad.detectors.parameters import ANY, without_removed
from kdad.errors import InputError

#: Of two blocks, the second in a block of the same name as a parameter of the first.
_KEPT = {"cloner": {"count": 1, "width": 4}, "scoring": {"choose": "none", "map": {"count": 3, "points": "all"}}}


def test_what_was_removed_is_left_out_where_it_changes_nothing():
    kept = copy.deepcopy(_KEPT)
    removed = {"cloner.count": 1, "scoring.choose": "none", "scoring.map.weighting": "equal", "students.count": 2}
    assert without_removed(kept, removed) == {"cloner": {"width": 4}, "scoring": {"map": {"count": 3, "points": "all"}}}
    assert kept == _KEPT


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ({"cloner.count": 2}, "count=1"),
        ({"cloner.count": None}, "count=1"),
        ({"scoring.choose": "rules"}, "choose=none"),
        ({"scoring.map.count": 1}, "count=3"),
        ({"cloner.count": 1, "scoring.map.points": "first 3"}, "points=all"),
    ],
)
def test_a_value_that_judges_otherwise_is_refused(removed, named):
    with pytest.raises(InputError, match=f"^it judges by {named}, which this version has not.*train the detector"):
        without_removed(_KEPT, removed)


@pytest.mark.parametrize("path", ["scoring.map", "scoring.map.count"])
def test_what_nothing_depends_on_is_left_out_whatever_it_was(path):
    found = without_removed(_KEPT, {path: ANY})
    assert found["cloner"] == _KEPT["cloner"]
    assert found["scoring"].get("map") == (None if path == "scoring.map" else {"points": "all"})
