import logging
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from kdad.hooks import stage_lines
from kdad.hooks.stage_lines import StageLinesHook
from kept_detectors import write_crop
from projects import SMALL, copy_project, logged_runs, run_pipeline

SEQUENTIAL = {"runner": "<kedro.runner.sequential_runner.SequentialRunner object at 0x1>"}
UNTRACKED = SimpleNamespace(tracked=None, project=Path("nowhere"))
TWO = SimpleNamespace(nodes=[SimpleNamespace(name="split_images"), SimpleNamespace(name="run_case")])


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(stage_lines, "perf_counter", lambda: found.now)
    return found


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "kdad")
    return lambda: [record.getMessage() for record in caplog.records]


def run_two(hook: StageLinesHook, clock, outputs: dict, parameters=SEQUENTIAL) -> None:
    hook.before_pipeline_run(parameters, TWO)
    for node, seconds, made in zip(TWO.nodes, (2.25, 65.0), ({}, outputs), strict=True):
        hook.before_node_run(node)
        clock.now += seconds
        hook.after_node_run(node, made)
        for name in made:
            hook.after_dataset_saved(name, node)
    hook.after_pipeline_run()


def test_a_line_for_each_node_and_one_for_all(clock, lines):
    run_two(StageLinesHook(UNTRACKED), clock, {"table": [1, 2]})
    assert lines() == ["1/2 split_images: 2.2 s", "2/2 run_case: 1 min 05 s", "Done in 1 min 07 s"]


def test_how_many_nodes_only_missing_outputs_leave_is_not_known(clock, lines):
    run_two(StageLinesHook(UNTRACKED), clock, {}, SEQUENTIAL | {"only_missing_outputs": True})
    assert lines()[0] == "1 split_images: 2.2 s"


def test_a_worker_process_numbers_nothing(clock, lines, monkeypatch):
    monkeypatch.setattr(stage_lines.multiprocessing, "parent_process", object)
    run_two(StageLinesHook(UNTRACKED), clock, {})
    assert lines()[:2] == ["split_images: 2.2 s", "run_case: 1 min 05 s"]


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error", "close"])
def test_on_a_terminal_a_bar_names_the_node_and_is_gone_in_the_end(monkeypatch, end):
    console = Console(force_terminal=True, width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    monkeypatch.setattr("rich._console", console)
    hook = StageLinesHook(UNTRACKED)
    hook.before_pipeline_run(SEQUENTIAL, TWO)
    hook.before_node_run(TWO.nodes[0])
    (task,) = hook._bar.tasks
    assert (task.description, task.completed, task.total) == ("split_images", 0, 2)
    assert hook._bar.live.is_started
    bar = hook._bar
    getattr(hook, end)()
    assert not bar.live.is_started
    assert hook._bar is None


def test_the_bar_weighs_nodes_by_what_they_took_last_time(tmp_path, clock, monkeypatch):
    console = Console(force_terminal=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    monkeypatch.setattr("rich._console", console)
    (tmp_path / "mlruns").mkdir()
    current = SimpleNamespace(tracked=None, project=tmp_path)
    run_two(StageLinesHook(current), clock, {})
    again = StageLinesHook(current)
    again.before_pipeline_run(SEQUENTIAL, TWO)
    again.before_node_run(TWO.nodes[0])
    again.after_node_run(TWO.nodes[0], {})
    (task,) = again._bar.tasks
    again.close()
    assert (task.completed, task.total) == (2.25, 67.25)


@pytest.mark.parametrize("runner", ["<kedro.runner.parallel_runner.ParallelRunner object>", "ThreadRunner"])
def test_where_others_write_on_the_terminal_there_is_no_bar(runner):
    hook = StageLinesHook(UNTRACKED)
    hook.before_pipeline_run({"runner": runner}, TWO)
    assert hook._bar is None


class Recorded:
    """A run that takes what a node leaves."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []
        self.has_begun = False

    def mark_begun(self) -> None:
        self.has_begun = True

    def node(self, *row) -> None:
        self.rows.append(row)


def test_a_nodes_seconds_are_of_loading_running_and_saving(clock, lines):
    run, node = Recorded(), SimpleNamespace(name="smooth_maps")
    hook = StageLinesHook(SimpleNamespace(tracked=run, project=Path("nowhere")))
    hook.before_pipeline_run(SEQUENTIAL, SimpleNamespace(nodes=[node]))
    for step, seconds in (
        (lambda: hook.before_dataset_loaded(node), 0.5),
        (lambda: hook.before_dataset_loaded(node), 1.0),
        (lambda: hook.before_node_run(node), 2.0),
        (lambda: hook.after_node_run(node, {"maps": 1, "scores": "two"}), 4.0),
        (lambda: hook.after_dataset_saved("maps", node), 8.0),
    ):
        step()
        clock.now += seconds
    assert run.has_begun and not run.rows and not lines()
    hook.after_dataset_saved("scores", node)
    assert run.rows == [("smooth_maps", 15.5, 1.5, 12.0, "maps: 1; scores: two")]
    assert lines() == ["1/1 smooth_maps: 15.5 s"]


def test_what_a_node_made_is_said_in_words_and_no_page_is_quoted():
    page, ready = "<!doctype html>" + "x" * 2985, {"seed": 3, "size": [64, 32], "reason": None}
    made = {"page": page, "png": bytes(1500), "facts": ready, "rows": [0.5] * 100}
    assert stage_lines._describe(made) == (
        "{page: text of 3.0 kB, png: file of 1.5 kB, "
        "facts: {seed: 3, size: [64, 32], reason: nothing}, rows: 100 of 0.5}"
    )


IMAGES = 60


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("seconds") / "project", migrated_database)
    for number in range(IMAGES):
        write_crop(folder / f"pictures/{number}.png", number, torn=number % 2 == 0)
    return folder


def run_nodes(project: Path, pipeline: str, blocks: dict) -> tuple[pd.DataFrame, float]:
    """Run a pipeline; return the table of its nodes, and the seconds in all."""
    run_pipeline(project, "test", pipeline, runtime_params=blocks)
    latest = logged_runs(project)[0]
    (table,) = project.glob(f"mlruns/{latest.info.run_id}/artifacts/nodes.csv")
    return pd.read_csv(table).set_index("node"), latest.data.metrics["seconds_total"]


def best_of_two(project: Path, pipeline: str, blocks: dict) -> tuple[pd.DataFrame, float]:
    """Run a pipeline, and once more where the machine was busy elsewhere; return the nodes and their share."""
    for _ in range(2):
        nodes, total = run_nodes(project, pipeline, blocks)
        share = nodes["seconds"].sum() / total
        if share > 0.9:
            break
    return nodes, share


@pytest.mark.long
def test_nodes_of_training_and_of_inference_take_the_runs_seconds(project):
    _, share = best_of_two(project, "mkd", SMALL)
    assert 0.9 < share <= 1
    inference = {"images": str(project / "pictures"), "sheet_images": 4}
    nodes, share = best_of_two(project, "inference", {"inference": inference})
    assert 0.9 < share <= 1
    predicting = nodes.loc["predict_images"]
    assert predicting["save_seconds"] < predicting["seconds"] / 10  # the work is the node's, and not its data set's
