"""Braces of given values are hidden from OmegaConf and Kedro, and shown again."""

from omegaconf import OmegaConf

from kdad.parameters.braces import hide_braces, show_braces

GIVEN = {"root": "/data/a${b}", "names": ["{c", "}", 1, None], "inner": {"d": "$e"}}


def test_hidden_values_refer_to_nothing_and_come_back():
    hidden = hide_braces(GIVEN)
    assert not any(brace in str(hidden["root"]) + str(hidden["names"]) for brace in "{}")
    assert hidden["inner"] == {"d": "$e"}
    assert show_braces(OmegaConf.to_container(OmegaConf.create(hidden), resolve=True)) == GIVEN
