"""`kedro run` as people type it: what it takes, and what it ends with."""

import re
import time

import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from kdad.cli import run
from kdad.errors import DivergedError, IncompleteError, InputError
from kdad.project.command_line import ExitCode
from projects import PROJECT

TYPED = "dataset.image_size=[64,128],dataset.root=/data/a, b,mkd_ablation.seeds=0 1 2"


@pytest.fixture
def kedro_run(project, monkeypatch):
    """Run a command in a project of its own, in this process."""
    monkeypatch.chdir(project)
    bootstrap_project(project)

    def start(*arguments: str) -> Result:
        return CliRunner().invoke(run, arguments)

    return start


def options_of(*arguments: str) -> dict:
    return run.make_context("run", list(arguments)).params


def test_parameters_are_read_as_they_are_typed():
    assert options_of(f"--params={TYPED}")["params"] == {
        "dataset": {"image_size": [64, 128], "root": "/data/a, b"},
        "mkd_ablation": {"seeds": "0 1 2"},
    }
    assert options_of()["params"] == {}


def test_parameters_of_a_configuration_file_are_a_dictionary_already(tmp_path):
    (tmp_path / "run.yml").write_text("run: {env: test, params: {dataset: {image_size: [64, 128]}}}")
    options = options_of(f"--config={tmp_path / 'run.yml'}")
    assert (options["params"], options["env"]) == ({"dataset": {"image_size": [64, 128]}}, "test")


#: Of each mistake: the file of `conf` that it is in with what the file holds, or the arguments; the code; the message.
MISTAKES = [
    ({"test/parameters.yml": "sede: 1\n"}, [], ExitCode.WRONG_PARAMETERS, "did you mean 'seed'"),
    ({"test/parameters.yml": "cloner: {trainin: {}}\n"}, [], ExitCode.WRONG_PARAMETERS, "did you mean 'training'"),
    ({"test/parameters.yml": "seed: 1\nseed: 2\n"}, [], ExitCode.WRONG_PARAMETERS, r"twice, in lines 1 and 2"),
    ({"test/parameters.yml": "seed: [1\n"}, [], ExitCode.WRONG_PARAMETERS, r"test/parameters\.yml: "),
    ({"test/parameters.yml": "- seed\n"}, [], ExitCode.WRONG_PARAMETERS, r"parameters\.yml: holds a list"),
    ({"test/parameters.yml": "seed: one\n"}, [], ExitCode.WRONG_PARAMETERS, r"seed: .*\(given: 'one'\)"),
    (
        {"test/mlflow.yml": "server: {mlflow_tracking_url: a}\n"},
        [],
        ExitCode.WRONG_PARAMETERS,
        "did you mean 'mlflow_tr",
    ),
    ({"test/mlflow.yml": "trakking: {}\n"}, [], ExitCode.WRONG_PARAMETERS, "did you mean 'tracking'"),
    ({"test/mlflow.yml": "ui: {port: []}\n"}, [], ExitCode.WRONG_PARAMETERS, r"ui\.port"),
    ({"test/catalog.yml": "table: {type: pandas.CSVDatset}\n"}, [], ExitCode.WRONG_PARAMETERS, "'pandas.CSVDataset'"),
    (
        {"test/catalog.yml": "a: {type: kdad.dataset.results.HtmlPageDataset}\n"},
        [],
        ExitCode.WRONG_PARAMETERS,
        "datasets",
    ),
    (
        {"test/catalog.yml": "split_table: {type: pandas.CSVDataset, filpath: a.csv}\n"},
        *(
            ["--pipeline=ingestion"],
            ExitCode.WRONG_PARAMETERS,
            "unknown key 'filpath'; did you mean",
        ),
    ),
    ({}, ["--env=tset"], ExitCode.WRONG_COMMAND, r"no environment 'tset' in '.*conf'; did you mean 'test'\?"),
    ({}, ["--pipeline=mdk"], ExitCode.WRONG_COMMAND, r"no pipeline 'mdk'; did you mean 'mkd'\?"),
    ({}, ["--pipelines=ingestion,mdk"], ExitCode.WRONG_COMMAND, "no pipeline 'mdk'"),
    ({}, ["--runner=ThredRunner"], ExitCode.WRONG_COMMAND, "did you mean 'ThreadRunner'"),
    ({}, ["--nodes=split_image"], ExitCode.WRONG_COMMAND, "did you mean 'split_images'"),
    ({}, ["--pipeline=ingestion", "--tags=trainin"], ExitCode.WRONG_COMMAND, "did you mean 'training'"),
    ({}, ["--tags=reporting", "--nodes=split_images"], ExitCode.WRONG_COMMAND, "leave something out"),
    ({}, ["--namespaces=mkd"], ExitCode.WRONG_COMMAND, "no namespace 'mkd'; known: features, fit"),
    ({}, ["--to-outputs=mkd.metric"], ExitCode.WRONG_COMMAND, "did you mean 'mkd.metrics'"),
    ({}, ["--params=seed"], ExitCode.WRONG_COMMAND, "--params: 'seed' has no name"),
    ({}, ["--params=sede=1"], ExitCode.WRONG_PARAMETERS, "did you mean 'seed'"),
    ({}, ["--params=cloner.training.epochs=0"], ExitCode.WRONG_PARAMETERS, r"cloner\.training\.epochs: "),
    ({}, ["--env=folder", "--params=dataset.root=/no/where"], ExitCode.UNUSABLE_INPUT, "no folder /no/where"),
]


@pytest.mark.long
def test_a_mistake_is_one_message_within_two_seconds_with_the_exit_code_of_its_kind(kedro_run, project):
    kedro_run("--env=test", "--nodes=nothing")  # imports what others import when they are run
    for files, arguments, code, said in MISTAKES:
        before = {
            path: path.read_text() if path.is_file() else "" for path in (project / "conf" / name for name in files)
        }
        for name, text in files.items():
            (project / "conf" / name).write_text(text)
        started = time.process_time()
        found = kedro_run("--env=test", *arguments)
        assert time.process_time() - started < 2, (files, arguments)
        assert (found.exit_code, found.stderr.count("Error: ")) == (code, 1), (files, arguments, found.output)
        assert re.search(said, found.stderr), (files, arguments, found.stderr)
        assert "Traceback" not in found.output
        for path, text in before.items():
            path.write_text(text)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted; the same command again takes what is finished"),
        (DivergedError("the loss is not finite"), ExitCode.DIVERGED, "the loss is not finite"),
        (IncompleteError("2 cases are missing"), ExitCode.INCOMPLETE, "2 cases are missing"),
        (InputError("no masks"), ExitCode.UNUSABLE_INPUT, "no masks"),
    ],
)
def test_what_happens_in_a_node_has_the_exit_code_of_its_kind(kedro_run, monkeypatch, error, code, said):
    def fail(*_):
        raise error

    monkeypatch.setattr("kdad.images.drawn.TextureSet.image", fail)
    found = kedro_run("--env=test", "--pipeline=ingestion")
    assert (found.exit_code, found.stderr.count(said)) == (code, 1)
    assert "Traceback" not in found.output


def test_the_option_of_old_is_taken_without_a_warning(kedro_run, recwarn):
    found = kedro_run("--env=test", "--pipeline=ingestion")
    assert found.exit_code == 0, found.output
    assert not [warning for warning in recwarn if "--pipeline" in str(warning.message)]
    assert "http://127.0.0.1:5000/#/experiments/" in found.stdout


def test_every_exit_code_stands_in_the_reference():
    page = (PROJECT / "docs/reference/command_line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ", page, flags=re.MULTILINE)
    assert set(map(int, rows)) == {0, 1, *ExitCode, 143}
