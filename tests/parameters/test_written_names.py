import os

import pytest
from omegaconf import OmegaConf

from kdad.parameters.written_names import (
    escape_placeholders,
    folder_name,
    plain_name,
    printable,
    shorten_name,
    unescape_placeholders,
    written,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/good/000.png", "train/good/000.png"),
        ("划痕, 大/a$b_{c$.png", "划痕, 大/a$b_{c$.png"),
        (os.fsdecode(b"Teil_gr\xfcn.png"), "Teil_gr\\xfcn.png"),
        ("a\nb\tc.png", "a\\nb\\tc.png"),
        ("a\u2028b", "a\\u2028b"),
        ("Teil_gr\\xfcn.png", "Teil_gr\\\\xfcn.png"),
    ],
)
def test_what_cannot_be_written_is_escaped_and_names_stay_different(name, expected):
    assert written(name) == expected
    expected.encode()


def test_braces_are_escaped_in_names_of_folders_and_names_stay_different():
    assert folder_name("a${b}") == r"a$\x7bb\x7d"
    assert folder_name(r"a\x7bb") == r"a\\x7bb"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brick@champion", "brick_champion"),
        ("our bricks/3", "our_bricks_3"),
        ("m-0a.1", "m-0a.1"),
        ("划痕:@x", "划痕_x"),
    ],
)
def test_a_plain_name_has_nothing_that_a_system_or_a_shell_takes_otherwise(name, expected):
    assert plain_name(name) == expected


GIVEN = {"root": "/data/a${b}", "names": ["{c", "}", 1, None], "inner": {"d": "$e"}}


def test_hidden_values_refer_to_nothing_and_come_back():
    hidden = escape_placeholders(GIVEN)
    assert not any(brace in str(hidden["root"]) + str(hidden["names"]) for brace in "{}")
    assert hidden["inner"] == {"d": "$e"}
    assert unescape_placeholders(OmegaConf.to_container(OmegaConf.create(hidden), resolve=True)) == GIVEN


def test_long_names_lose_their_middle():
    assert shorten_name("abcdefghij", 10) == "abcdefghij"
    assert shorten_name("abcdefghijk", 10) == "abcde…hijk"  # 5 + 1 + 4
    assert len(shorten_name(f"{'x' * 300}.png")) == 22


def test_controls_are_replaced_and_letters_are_kept():
    assert printable("a\nb\t名ü .png") == "a\ufffdb\ufffd名ü .png"
