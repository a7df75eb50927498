"""Braces of given values are hidden from OmegaConf and Kedro, and shown again."""

from omegaconf import OmegaConf

from kdad.parameters.braces import escape_placeholders, unescape_placeholders

GIVEN = {"root": "/data/a${b}", "names": ["{c", "}", 1, None], "inner": {"d": "$e"}}


def test_hidden_values_refer_to_nothing_and_come_back():
    hidden = escape_placeholders(GIVEN)
    assert not any(brace in str(hidden["root"]) + str(hidden["names"]) for brace in "{}")
    assert hidden["inner"] == {"d": "$e"}
    assert unescape_placeholders(OmegaConf.to_container(OmegaConf.create(hidden), resolve=True)) == GIVEN
