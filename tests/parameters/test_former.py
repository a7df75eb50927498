"""Parameters of earlier versions: all of them in one message, whichever way they are given; kept detectors."""

import copy

import pytest

import kdad
from kdad.errors import InputError
from kdad.parameters.former import FORMER, former_lines, without_former
from kdad.parameters.strict import merge
from kdad.project.command_line import CommandLineError
from kdad.project.configuration import check_names
from kdad.project.given_parameters import parse_parameters
from parameter_blocks import least_parameters

_GIVEN = (
    "scoring.threshold_quantile=0.9,patches.size=33,stfpm.normalisation=position,cloner.count=3,"
    "mkd_ablation.base.scoring.detection.term=direction,teacher.dense.training.loss_quantile=0.85"
)


def test_all_of_them_are_one_message_with_the_new_name_or_the_reason():
    with pytest.raises(CommandLineError) as caught:
        check_names(merge(least_parameters(), parse_parameters(_GIVEN)))
    first, *lines = str(caught.value).splitlines()
    assert first == "parameters cannot be used:"
    assert sorted(lines) == [
        "  cloner.count: removed, as it helped nowhere: see docs/lab/removed_rules.md (given: 3)",
        "  mkd_ablation.base.scoring.detection.term: removed: the forward map is scored, by scoring.forward_map and "
        "scoring.smoothing; see docs/lab/removed_rules.md (given: 'direction')",
        "  patches.size: now students.receptive_fields (given: 33)",
        "  scoring.threshold_quantile: now measuring.threshold_quantile (given: 0.9)",
        "  stfpm.normalisation: now per_pixel (given: 'position')",
        "  teacher.dense.training.loss_quantile: removed, as it helped nowhere: see docs/lab/contamination.md "
        "(given: 0.85)",
    ]


def test_python_is_told_the_same():
    with pytest.raises(InputError, match=r"(?s)cloner\.count: removed.*dataset|scoring\.choose: removed"):
        kdad.fit("nowhere", cloner={"count": 3}, scoring={"choose": "drawn_defects"})


def test_what_is_still_there_is_not_former():
    blocks = least_parameters() | {"baselines": {"methods": {"bank": {"options": {"patches": 3}}}}}
    assert former_lines(blocks) == []
    assert (
        former_lines({"stfpm": {"normalisation": "per_pixel"}, "scoring": {"detection": {"score": "total_loss"}}}) == []
    )


@pytest.mark.parametrize("key", FORMER)
def test_every_entry_of_the_table_is_found(key):
    path, _, value = key.partition("=")
    (line,) = former_lines(parse_parameters(f"{path}={value or 'anything'}"))
    assert line.startswith(f"  {path}: ")


#: Of two blocks, with a name that only elsewhere is a former one.
_KEPT = {"cloner": {"count": 1, "width": 4}, "scoring": {"choose": "none", "choosing": {"margin": 1}, "count": 3}}


def test_of_a_kept_detector_what_changes_nothing_is_left_out():
    kept = copy.deepcopy(_KEPT)
    kept["scoring"]["detection"] = {"normalisation": "position"}
    given = copy.deepcopy(kept)
    expected = {"cloner": {"width": 4}, "scoring": {"count": 3, "detection": {"normalisation": "per_pixel"}}}
    assert without_former(kept) == expected
    assert kept == given


def test_of_a_kept_detector_all_that_predicted_otherwise_is_named_with_its_reason():
    changed = {
        "cloner": {"count": 2},
        "scoring": {"forward_map": {"normalisation": "validation", "weighting": "generalisation"}},
        "stfpm": {"normalisation": "position"},
    }
    with pytest.raises(InputError) as caught:
        without_former(merge(_KEPT, changed))
    assert str(caught.value) == (
        "it predicts by cloner.count=2 (removed, as it helped nowhere: see docs/lab/removed_rules.md); "
        "scoring.forward_map.normalisation=validation, stfpm.normalisation=position (by which validation images may "
        "have shaped scores, and then set the threshold); scoring.forward_map.weighting=generalisation (removed, as "
        "validation images shaped scores by it and then set the threshold: see docs/lab/removed_rules.md); train the "
        "detector again"
    )
