"""What can be said in ``--params``."""

import pytest

from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.given_parameters import parse_parameters, say_parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("seed=3", {"seed": 3}),
        (" seed = 3 , ", {"seed": 3}),
        ("a.b=1,a.c=x y,d=1e-3", {"a": {"b": 1, "c": "x y"}, "d": 0.001}),
        # Lists and mappings, commas in them.
        ("dataset.image_size=[256,32],seed=1", {"dataset": {"image_size": [256, 32]}, "seed": 1}),
        ("a=[[16, 16],[32]],b={c: 1, d: [x, y]}", {"a": [[16, 16], [32]], "b": {"c": 1, "d": ["x", "y"]}}),
        ("a=[x y, 'p,q=1']", {"a": ["x y", "p,q=1"]}),
        ('a=["]", 2]', {"a": ["]", 2]}),
        ("a.b=1,a={c: 2}", {"a": {"b": 1, "c": 2}}),
        # Plain text is taken as it is, to the comma that a name follows.
        ("root=/data/a, b,seed=1", {"root": "/data/a, b", "seed": 1}),
        ("root=/data/run=3,seed=1", {"root": "/data/run=3", "seed": 1}),
        ("root=C: new #2,seed=1", {"root": "C: new #2", "seed": 1}),
        ("root=O'Brien's,seed=1", {"root": "O'Brien's", "seed": 1}),
        ("root=/data/[1], b", {"root": "/data/[1], b"}),
        ("seeds=0,1,2", {"seeds": "0,1,2"}),
        # Text that holds `, name=`, or that looks like something else, is quoted.
        ("root='a, b=3',seed=1", {"root": "a, b=3", "seed": 1}),
        ('category="003"', {"category": "003"}),
        # Digits that nobody writes a number with are a name.
        ("category=01,seed=0,a=0.5,b=-01", {"category": "01", "seed": 0, "a": 0.5, "b": "-01"}),
        ("a=null,b=true,c='null'", {"a": None, "b": True, "c": "null"}),
        ("a='it''s'", {"a": "it's"}),
    ],
)
def test_what_is_said_is_what_is_meant(text, expected):
    assert parse_parameters(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brick", "'brick' has no name; write name=value"),
        ("=3", "'=3' has no name"),
        ("3a=3", "'3a=3' has no name"),
        ("a=[1,2,b=3", r"a: '\[1,2' is not YAML: .*expected ',' or '\]'"),
        ("a={b: [1}", r"a: '\{b: \[1\}' is not YAML: .*expected ',' or '\]'"),
        ("a=3,a.b=2", "'a.b' is given below 'a', which is given a value of its own"),
        ("a={b: 1: 2}", "a: '{b: 1: 2}' is not YAML"),
    ],
)
def test_what_cannot_be_meant_is_one_message_of_a_wrong_command(text, message):
    with pytest.raises(CommandLineError, match=f"--params: {message}") as caught:
        parse_parameters(text)
    assert caught.value.exit_code == ExitCode.WRONG_COMMAND == 2


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"dataset": {"root": "/data/run=3, b"}, "seed": 1}, "dataset.root=/data/run=3, b,seed=1"),
        ({"a": "b, c=3", "d": "003"}, 'a="b, c=3",d=003'),
        ({"a": "null", "b": None, "c": True, "d": " x"}, 'a="null",b=null,c=true,d=" x"'),
        ({"a": [64, "b, c"], "d": "[x"}, 'a=[64, "b, c"],d="[x"'),
    ],
)
def test_what_is_said_again_is_read_the_same(values, text):
    assert say_parameters(values) == text
    assert parse_parameters(text) == values
