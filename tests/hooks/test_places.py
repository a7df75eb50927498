import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner

from kdad.datasets.results import ThresholdDataset
from kdad.hooks.places import PlacesHook, places_of
from kdad.project.command_line import ExitCode
from kdad.project.places import OutputFolder, find_owner
from projects import SMALL, logged_runs, run_pipeline


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["data/02_intermediate/textures/brick/images.csv"], ["textures/brick"]),
        (
            ["data/02_intermediate/textures/brick/a.csv", "data/08_reporting/textures/brick/mkd/b.png"],
            ["textures/brick"],
        ),
        (
            ["data/03_primary/textures/brick/split.csv", "data/03_primary/textures/grass/split.csv"],
            ["textures/brick", "textures/grass"],
        ),
        (["data/07_model_output/textures/paper_tables/results/a.json"], ["textures/paper_tables"]),
        (["data/06_models/digits/soft_target_teacher_loss.csv"], ["digits/soft_target_teacher_loss.csv"]),
        (["data/08_reporting/inference/photos"], ["inference/photos"]),
        (["data/08_reporting/inference/photos", "data/08_reporting/inference/photos/page.html"], ["inference/photos"]),
        (["elsewhere/photos", "elsewhere/photos/page.html"], ["{}/elsewhere/photos"]),
        (["elsewhere/my.photos", "elsewhere/my.photos/page.html"], ["{}/elsewhere", "{}/elsewhere/my.photos"]),
        (["data/../data/03_primary/textures/brick/split.csv"], ["textures/brick"]),
        ([], []),
    ],
)
def test_places_are_a_data_sets_categories_and_folders_elsewhere(tmp_path, files, expected):
    found = places_of([tmp_path / file for file in files], tmp_path / "data")
    assert found == [place.format(tmp_path) for place in expected]


@pytest.fixture
def session(tmp_path):
    """Begin and end runs that write to categories, in this process, through Kedro's hook manager."""
    (tmp_path / "data").mkdir()

    class Session:
        def __init__(self, *others, hook=None):
            self.hook = hook or PlacesHook()
            self._manager = _create_hook_manager()
            _register_hooks(self._manager, (*others, self.hook))

        def begin(self, *categories):
            outputs = {f"out_{category}": category for category in categories}
            catalog = DataCatalog(
                {
                    name: ThresholdDataset(
                        filepath=str(tmp_path / f"data/06_models/textures/{category}/threshold.json")
                    )
                    for name, category in outputs.items()
                }
                | {"in": MemoryDataset(0), "free": MemoryDataset()}
            )
            nodes = [Node(abs, "in", name, name=name) for name in (*outputs, "free")]
            self._given = {"run_params": {"project_path": str(tmp_path)}, "pipeline": Pipeline(nodes)}
            self._given["catalog"] = catalog
            self._manager.hook.before_pipeline_run(**self._given)

        def end(self):
            self._manager.hook.after_pipeline_run(**self._given, run_result={})

        def fail(self):
            self._manager.hook.on_pipeline_error(**self._given, error=ValueError())

    return Session


class Failing:
    """A hook that meets an error at every turn."""

    @hook_impl
    def before_pipeline_run(self):
        """Fail."""
        raise RuntimeError("no server")

    @hook_impl
    def on_pipeline_error(self):
        """Fail."""
        raise RuntimeError("no server")

    @hook_impl
    def after_pipeline_run(self):
        """Fail."""
        raise RuntimeError("no server")


def test_a_run_is_refused_where_another_one_writes_and_told_what_to_do(session):
    first, second = session(), session()  # both are kept: a session that is collected frees its places
    first.begin("brick", "grass")
    with pytest.raises(KedroCliError) as caught:
        second.begin("gravel", "grass")
    text = str(caught.value)
    assert text.startswith(f"another run is writing to 'textures/grass': process {os.getpid()} (`")
    assert text.endswith("). Wait until it ends, run another category, or use a second checkout")
    second.begin("gravel")  # which the refusal has not kept


def test_runs_on_different_categories_go_on_at_once(session):
    session().begin("brick")
    session().begin("grass")


@pytest.mark.parametrize("ending", ["end", "fail"])
def test_a_place_is_free_when_its_run_has_ended(session, ending):
    first = session()
    first.begin("brick")
    getattr(first, ending)()
    session().begin("brick")


@pytest.mark.parametrize("ending", ["begin", "end", "fail"])
def test_a_place_is_free_when_another_hook_fails(session, ending):
    hook = PlacesHook()
    first = session(Failing(), hook=hook) if ending == "begin" else session(hook=hook)
    if ending == "begin":
        with pytest.raises(RuntimeError, match="no server"):
            first.begin("brick")
    else:
        first.begin("brick")
        first._manager.register(Failing())
        with pytest.raises(RuntimeError, match="no server"):
            getattr(first, ending)()
    session().begin("brick")


def test_what_an_interrupted_session_holds_is_the_next_ones(session):
    hook = PlacesHook()
    session(hook=hook).begin("brick", "grass")  # and neither ends nor fails
    session(hook=hook).begin("brick")
    with pytest.raises(KedroCliError, match="textures/brick"):
        session().begin("brick")
    session().begin("grass")


def test_a_worker_neither_frees_the_places_nor_is_refused(session):
    holding = session()  # a lock is freed with its hook
    holding.begin("brick")
    worker = os.fork()
    if worker == 0:
        session(hook=PlacesHook())  # as Kedro does there
        os._exit(0)
    os.waitpid(worker, 0)
    with pytest.raises(KedroCliError, match=f"process {os.getpid()} "):
        session().begin("brick")


def start(project: Path, *options: str) -> subprocess.Popen:
    small = "dataset.textures.train_images=12,dataset.textures.test_normal=4,dataset.textures.test_per_defect=1"
    parameters = [option for option in options if not option.startswith("--")]
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--params={','.join([small, *parameters])}"]
    command += [option for option in options if option.startswith("--")]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def metrics_of(project: Path, category: str) -> dict:
    return json.loads((project / f"data/08_reporting/textures/{category}/mkd/metrics.json").read_text())


@pytest.mark.faults
def test_a_refused_run_is_not_logged_and_sessions_of_one_process_follow_each_other(project):
    run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(project)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    given = SMALL | {"dataset": SMALL["dataset"] | {"category": "grass"}}
    with pytest.raises(KedroCliError, match=f"'textures/grass': process {other.pid} "):
        run_pipeline(project, pipeline="ingestion", runtime_params=given)
    run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    other.communicate("end\n")
    run_pipeline(
        project, pipeline="ingestion", runtime_params=SMALL | {"dataset": SMALL["dataset"] | {"category": "grass"}}
    )
    assert [run.info.status for run in logged_runs(project)] == ["FINISHED"] * 3


_HOLDER = """
import sys
from pathlib import Path
from kdad.hooks.places import PlacesHook

hook, data = PlacesHook(), Path(sys.argv[1]) / "data"
hook._lock("textures/grass", data / ".locks")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.faults
def test_of_two_runs_started_together_one_ends_with_its_numbers_and_one_is_refused(project):
    both = {seed: start(project, f"seed={seed}") for seed in (1, 2)}
    said = {seed: process.communicate()[0] for seed, process in both.items()}
    (winner,) = (seed for seed, process in both.items() if process.returncode == 0)
    loser = 3 - winner
    assert both[loser].returncode == ExitCode.OCCUPIED
    text = " ".join(said[loser].split())
    assert f"another run is writing to 'textures/brick': process {both[winner].pid} (`python" in text
    assert f"seed={winner}" in text
    assert "Traceback" not in text
    (run,) = logged_runs(project)
    assert (run.info.status, run.data.params["seed"]) == ("FINISHED", str(winner))
    assert metrics_of(project, "brick")["seed"] == winner
    assert run.data.metrics["image_auroc"] == metrics_of(project, "brick")["image_auroc"]
    assert start(project, f"seed={loser}").wait() == 0  # and the place is free again
    assert metrics_of(project, "brick")["seed"] == loser


@pytest.mark.faults
def test_two_runs_on_different_categories_started_together_both_end_with_their_numbers(project):
    both = {category: start(project, f"dataset.category={category}") for category in ("brick", "grass")}
    said = {category: process.communicate()[0] for category, process in both.items()}
    assert [process.returncode for process in both.values()] == [0, 0], said
    runs = {run.data.params["dataset.category"]: run for run in logged_runs(project)}
    for category in both:
        assert metrics_of(project, category)["category"] == category
        assert runs[category].info.status == "FINISHED"
        assert runs[category].data.metrics["image_auroc"] == metrics_of(project, category)["image_auroc"]


@pytest.mark.faults
def test_the_place_of_a_run_with_workers_is_its_own_until_it_ends(project):
    other = start(project, "--pipeline=mkd_ablation", "mkd_ablation.axes=loss_terms", "workers.count=2")
    models = project / "data/06_models/store"
    deadline = time.monotonic() + 300
    while not list(models.glob("*/")):  # so a worker is at its case
        assert other.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(KedroCliError, match=f"process {other.pid} "):
        run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    said, _ = other.communicate()
    assert other.returncode == 0, said
    run_pipeline(project, pipeline="ingestion", runtime_params=SMALL, runner=ParallelRunner())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.faults
def test_an_interrupted_session_does_not_block_the_next_of_its_process(project, monkeypatch, error):
    def interrupted(*_):
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr("kdad.detectors.mkd.cloner.train", interrupted)
        run_pipeline(project, pipeline="mkd", runtime_params=SMALL)
    mlflow.end_run("KILLED")  # as the end of the process does
    run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)


@pytest.fixture
def run(tmp_path):
    """Begin a run that writes to places, with claims, and let it fail or end."""

    def begin(places: list[str], *claims: OutputFolder, left: tuple[str, str] | None = None, fails=False) -> None:
        hook, manager = PlacesHook(), _create_hook_manager()
        _register_hooks(manager, (hook,))
        hook.after_context_created(SimpleNamespace(config_loader=SimpleNamespace(claims=claims, outputs="data")))
        names = {f"out{number}": place for number, place in enumerate(places)}
        catalog = DataCatalog(
            {
                name: ThresholdDataset(filepath=str(tmp_path / f"data/07_model_output/{place}/threshold.json"))
                for name, place in names.items()
            }
        )
        nodes = [Node(abs, "in", name, name=name) for name in names]
        given = {"run_params": {"project_path": str(tmp_path)}, "pipeline": Pipeline(nodes), "catalog": catalog}
        manager.hook.before_pipeline_run(**given)
        if left is not None:
            folder = tmp_path / "data" / left[0] / places[0]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / left[1]).write_text("")
        if fails:
            manager.hook.on_pipeline_error(**given, error=ValueError())
        else:
            manager.hook.after_pipeline_run(**given, run_result={})

    return begin


def test_the_places_that_a_run_writes_to_are_recorded_and_no_others(run, tmp_path):
    run(
        ["folder/images"], OutputFolder("folder/images", "/screw/images"), OutputFolder("folder/other", "/screw/images")
    )
    assert find_owner(tmp_path / "data", "folder/images") == "/screw/images"
    assert find_owner(tmp_path / "data", "folder/other") is None


def test_an_embedded_set_leaves_no_record(run, tmp_path):
    run(["textures/brick"], OutputFolder("textures/brick", ""))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".locks"]


def test_a_place_of_another_name_is_said(run, caplog):
    caplog.set_level(logging.INFO, "kdad")
    run(["folder-1/images"], OutputFolder("folder-1/images", "/nut/images", "folder/images"))
    (said,) = caplog.messages
    assert said.startswith(
        "Results of '/nut/images' lie in data/*/folder-1/images, as data/*/folder/images holds those"
    )


def test_a_place_that_another_root_has_taken_since_is_refused(run):
    run(["folder/images"], OutputFolder("folder/images", "/screw/images"))
    with pytest.raises(KedroCliError, match="has just been taken by a run on '/screw/images'; give the same command"):
        run(["folder/images"], OutputFolder("folder/images", "/nut/images"))


@pytest.mark.parametrize(
    ("left", "owner"),
    [
        (None, None),
        (("02_intermediate", "images.csv"), "/screw/[1]/images"),
        (("05_model_input", "teacher_patches.parquet"), None),  # of natural images
    ],
)
def test_a_new_place_is_given_back_when_a_failed_run_left_nothing_of_the_root(run, tmp_path, left, owner):
    place = "folder/[1]"
    run([place], OutputFolder(place, "/screw/[1]/images"), left=left, fails=True)
    assert find_owner(tmp_path / "data", place) == owner


def test_a_place_that_was_its_own_before_is_not_given_back(run, tmp_path):
    run(["folder/images"], OutputFolder("folder/images", "/screw/images"))
    run(["folder/images"], OutputFolder("folder/images", "/screw/images"), fails=True)
    assert find_owner(tmp_path / "data", "folder/images") == "/screw/images"
