"""What the README and the documents tell people to type works."""

import re
import shlex
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from kdad.parameters.strict import flatten
from kdad.pipeline_registry import register_pipelines
from kdad.project import LOADER_ARGS
from kdad.project.configuration import RunConfigLoader, block_model
from kdad.project.given_parameters import parse_parameters
from kdad.scoring.threshold import quantile_threshold
from projects import PROJECT
from small_detector import fit_detector

PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return a page's blocks of code, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


COMMANDS = sorted(
    {
        re.split(r"\s#", line)[0].strip()
        for page in PAGES
        for kind, text in blocks(page)
        if not kind
        for line in text.replace("\\\n", "").splitlines()
        if re.match(r"(\w+=\S+ )?kedro run", line)
    }
)


@pytest.fixture(scope="module")
def loader() -> RunConfigLoader:
    return RunConfigLoader(str(PROJECT / "conf"), env="test", **LOADER_ARGS)


@pytest.fixture(scope="module")
def pipelines() -> set[str]:
    return set(register_pipelines())


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder where a detector lies as `kedro run` leaves it, a part, and a folder of parts."""
    detector = fit_detector(tmp_path)
    low = np.full(4, -1e6)
    detector.calibrated(quantile_threshold(low, 0.5), low)
    detector.save(tmp_path / "data/06_models/textures/brick/mkd/detector")
    (tmp_path / "parts").mkdir()
    for path in ("part.png", "parts/a.png", "parts/b.png"):
        Image.fromarray(np.full((40, 30), 128, np.uint8)).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)


def test_the_lines_of_python_predict_a_part_and_a_folder(trained, capsys):
    (code,) = [text for kind, text in blocks(PAGES[0]) if kind == "python"]
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "Prediction(score=" in said
    assert "parts/a.png" in said and "parts/b.png" in said  # above any threshold that is low enough


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_pipelines_environments_and_parameters_that_there_are(loader, pipelines, command):
    words = shlex.split(command)
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    for name in (options.get("pipeline") or options.get("pipelines") or "__default__").split(","):
        assert name in pipelines
    if "env" in options:
        assert (PROJECT / "conf" / options["env"]).is_dir()
    given = words[words.index("--params") + 1] if "--params" in words else ""
    for setting in flatten(parse_parameters(given)):
        block, *path = re.sub(r"^\w+\.base\.", "", setting).split(".")  # an ablation's base: blocks as of a run
        models = [block_model(block)]
        for field in path:
            fields = [model.model_fields for model in models if field in getattr(model, "model_fields", {})]
            assert fields, setting
            models = [
                kind for known in fields for kind in (known[field].annotation, *get_args(known[field].annotation))
            ]
