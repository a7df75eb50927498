"""YAML of every wrong kind: each is one message that names the field, or the file."""

import math
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from kdad.project import LOADER_ARGS
from kdad.project.command_line import CommandLineError
from kdad.project.configuration import RunConfigLoader, block_model, check_names, check_values
from parameter_blocks import base_parameters

#: Values that are never a number.
NO_NUMBERS: dict[str, Any] = {
    "true": True,
    "text": "many",
    "mapping": {"a": 1},
    "list_of_lists": [[1]],
    "nan": math.nan,
    "infinity": math.inf,
    "date": date(2024, 1, 1),
    "bytes": b"\xff",
}
#: Values that are never text.
NO_TEXTS: dict[str, Any] = {"number": 3.5, "true": True, "mapping": {"a": 1}, "list_of_lists": [[1]]}
#: Values that are neither true nor false.
NO_SWITCHES: dict[str, Any] = {"text": "many", "mapping": {"a": 1}, "list": [1, 2], "number": 7}
#: Mappings whose values are another block's, or anyone's.
FREE = ("variants", "methods", "base", "options", "overrides", "rest")


def leaves(values: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the place and value of every field that is given and is no block."""
    for name, value in values.items():
        if name in FREE:
            continue
        if isinstance(value, dict):
            yield from leaves(value, (*place, name))
        else:
            yield (*place, name), value


def wrong_values() -> list[tuple[tuple[str, ...], str, Any]]:
    """Return place, kind and value of what does not fit a field, by what stands there in the base."""
    found = []
    for place, value in leaves(base_parameters()):
        if isinstance(value, bool):
            wrong = NO_SWITCHES
        elif isinstance(value, int | float):
            wrong = NO_NUMBERS
        elif isinstance(value, str):
            wrong = NO_TEXTS
        else:
            continue
        found += [(place, kind, one) for kind, one in wrong.items()]
    return found


def _with(values: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = place
    return values | {head: _with(values[head], tuple(rest), value) if rest else value}


def test_values_of_every_wrong_kind_are_refused_by_the_name_of_their_field():
    base, wrong, taken = base_parameters(), wrong_values(), []
    assert len(wrong) > 250
    for place, kind, value in wrong:
        block = place[0]
        try:
            check_values({block: block_model(block)}, _with(base, place, value))
        except CommandLineError as error:
            assert place[-1] in str(error), (place, kind)
        else:
            taken.append((".".join(place), kind))
    assert taken == []


@pytest.mark.parametrize("value", [None, [], {}, 3, "text", True, [{"a": 1}]])
@pytest.mark.parametrize("block", ["dataset", "cloner", "scoring", "measuring", "compute", "teacher", "students"])
def test_a_block_of_another_kind_is_named(block, value):
    if value == {} and block != "dataset":
        pytest.skip("everything in it has a default")
    with pytest.raises(CommandLineError, match=block):
        check_values({block: block_model(block)}, {block: value})


@pytest.mark.parametrize("name", ["datset", "", "3", "__class__", "dataset ", "DATASET", "a.b"])
def test_an_unknown_block_is_named(name):
    with pytest.raises(CommandLineError, match="unknown parameter"):
        check_names({name: {}})


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "content",
    [
        "dataset: [",
        "dataset: {name: textures",
        "\tdataset: 1",
        "dataset: 'unclosed",
        "- a\n- list",
        "3",
        "&a [*b]",
        "dataset: *nowhere",
        "dataset: @",
        "dataset: !!python/object/apply:os.system ['true']",
        "!!python/object/new:pathlib.Path ['/tmp']",
        "a: b: c",
        "%YAML 9.9",
        "? [a, b]\n: - x\n  y",
        "dataset: !unknown {a: 1}",
        b"\xff\xfe\x00broken",
        b"seed: 1\x00",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_a_file_that_is_no_yaml_is_named(tmp_path, content):
    path = tmp_path / "conf/broken/parameters.yml"
    path.parent.mkdir(parents=True)
    (tmp_path / "conf/base").mkdir()
    (tmp_path / "conf/base/parameters.yml").write_text("seed: 0\n")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CommandLineError) as caught:
        loader = RunConfigLoader(str(tmp_path / "conf"), env="broken", **LOADER_ARGS)
        loader["parameters"]
    assert str(path) in str(caught.value)
