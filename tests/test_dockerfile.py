"""The image is built where there is an engine for it; here, that what it names is there."""

import json
import re
import tomllib
from itertools import takewhile

from kdad.serving.__main__ import main
from projects import PROJECT

_TEXT = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE))
_STEPS = [tuple(line.split(maxsplit=1)) for line in _TEXT.splitlines() if line.strip()]


def _all(instruction: str) -> list[str]:
    return [rest for name, rest in _STEPS if name == instruction]


def test_what_is_copied_is_there_and_is_not_left_out_of_the_context():
    copied = [name for rest in _all("COPY") if not rest.startswith("--from") for name in rest.split()[:-1]]
    taken = re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(taken)
    assert all((PROJECT / name).exists() for name in copied)


def test_pip_is_given_extras_that_exist_and_files_that_are_there_by_then():
    described = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'"\.\[(.+?)\]"', _TEXT)
    assert set(extras.split(",")) <= set(described["optional-dependencies"])
    installing = next(index for index, (_, rest) in enumerate(_STEPS) if ".[" in rest)
    before = {name for instruction, rest in _STEPS[:installing] if instruction == "COPY" for name in rest.split()}
    constraints = {name for rest in _all("RUN") for name in re.findall(r"--constraint (\S+)", rest)}
    assert constraints
    assert constraints | {"pyproject.toml", "src", described["readme"], "LICENSE"} <= before


def test_a_later_stage_copies_of_an_earlier_one():
    stages = [rest.partition(" AS ")[2] for rest in _all("FROM")]
    named = re.findall(r"^COPY --from=(\w+)", _TEXT, re.MULTILINE)
    assert named
    assert set(named) <= set(takewhile(bool, stages))


def test_what_it_starts_takes_the_options_and_answers_the_health_check():
    _, _, module, *options = json.loads(_all("ENTRYPOINT")[0])
    assert f"{module}.__main__" == main.callback.__module__
    given = dict(option.split("=") for option in options)
    assert set(given) <= {name for parameter in main.params for name in parameter.opts}
    (port,) = _all("EXPOSE")
    assert given["--port"] == port
    (asked,) = re.findall(rf"127\.0\.0\.1:{port}(/[\w/]+)", _all("HEALTHCHECK")[0])
    assert f'"{asked}"' in (PROJECT / "src/kdad/serving/app.py").read_text()
    (arguments,) = _all("CMD")
    assert all(name.startswith("/") for name in json.loads(arguments))
