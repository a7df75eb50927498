"""Projects to run in, and the real data that some tests need."""

import gc
import io
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from omegaconf import OmegaConf
from sqlalchemy import Engine, event

from kdad.images import natural_pool
from kdad.inference import arrivals
from kdad.networks.source import Source
from kdad.networks.weights import load_source
from kdad.tracking import uploader
from postgres_cluster import PostgresCluster, postgres_programs
from projects import PROJECT, copy_project, run_pipeline
from small_detector import keep_detector
from tracking_server import TrackingServer

# Modules and tests are no garbage; to look for some among them takes a fifth of the time in which they are imported.
gc.disable()
os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "agg"
# An example that took 0.3 s beside other work is no failure.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

SHARED = PROJECT.parent / "shared"
_WHOLE_RUNS = ("pipelines", "notebooks", "hooks", "serving", "tracking", "exported")


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, record: Any) -> None:
    """MLflow commits every parameter of a run; no test's database has to survive a power cut."""
    connection.execute("PRAGMA synchronous=OFF")


def pytest_configure() -> None:
    """Hear Ctrl-C, which a shell has its background jobs ignore, and keep to one core beside other workers."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        # A core of its own, also for the runs that it starts: threads of several workers on one core crawl.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is long
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs data or programs that are not here, and say so; files of whole runs come first, by their names.

    So the files that workers end with are short ones, and none is waited for by the others. Files of one folder, which
    share what a session makes once, do not begin together on two workers.
    """
    _leave_to_long_tests(items)
    items.sort(key=lambda item: (item.path.parent.name not in _WHOLE_RUNS, item.path.name))
    missing = {
        "real_data": None if (SHARED / "weights").is_dir() else "needs ../shared",
        "browser": None
        if shutil.which("chromedriver") and shutil.which("chromium")
        else "needs chromium and chromedriver",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _leave_to_long_tests(items: list[pytest.Item]) -> None:
    """Mark cases beyond the first N of a test marked ``sample(N)`` as long; with each day others are the first."""
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample"):
            sampled.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in sampled.values():
        (count,) = cases[0].get_closest_marker("sample").args
        first = date.today().toordinal() * count
        shown = {(first + number) % len(cases) for number in range(count)}
        for number, item in enumerate(cases):
            if number not in shown:
                item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and not among what is imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Tensors are so small that a second thread costs more than it gives, tenfold on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _waits_end_in_time() -> Iterator[None]:
    # A run of a second would wait another tenth until it sees that all is written, and a watch sleeps for a fifth.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uploader, "_LOOK", 0.02)
        patched.setattr(arrivals, "_LONGEST_SLEEP", 0.02)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_has_to_survive_a_power_cut() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _photographs_are_decoded_once() -> Iterator[None]:
    # Each pool of natural images keeps those that it has read; tests make many of the same few photographs.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(natural_pool, "decode_image", lru_cache(20)(natural_pool.decode_image))
        yield


@pytest.fixture(scope="session", autouse=True)
def _texts_are_parsed_once() -> Iterator[None]:
    # Hundreds of sessions read the same configuration.
    load = OmegaConf.load
    parsed = cache(lambda text: pickle.dumps(load(io.StringIO(text))))

    def read(file: Any) -> Any:
        return pickle.loads(parsed(file.read())) if hasattr(file, "read") else load(file)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OmegaConf, "load", staticmethod(read))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and images."""
    return SHARED


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, migrated once for all tests."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "mlruns"))
    return path


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small detector; only to be read."""
    return keep_detector(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def project(tmp_path: Path, migrated_database: Path) -> Path:
    """A project of its own for one test."""
    return copy_project(tmp_path, migrated_database)


@pytest.fixture
def run(project: Path) -> Callable[..., None]:
    """Run a pipeline in the test's own project."""

    def start(env: str = "test", pipeline: str = "__default__", **options) -> None:
        run_pipeline(project, env, pipeline, **options)

    return start


@pytest.fixture(scope="module")
def browser():
    """A browser without a window, whose console is kept."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresCluster]:
    """PostgreSQL, that is up."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    made = PostgresCluster(programs)
    try:
        made.create()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def tracking_server(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[TrackingServer]:
    """MLflow's server with a database and an artifact root of its own, that is up."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_database, folder / "server.db")
    made = TrackingServer(folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def postgres_server(postgres: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """MLflow's server on PostgreSQL, of two workers, that is up."""
    made = TrackingServer(tmp_path_factory.mktemp("server"), postgres.uri, workers=2)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@cache
def _frozen(name: str) -> Source:
    return load_source(name, "random")


@pytest.fixture(params=["vgg16", "resnet18", "efficientnet_lite0", "timm:test_resnet", "timm:test_vit"])
def source_name(request) -> str:
    """Each kind of source."""
    return request.param


@pytest.fixture
def source(source_name) -> Source:
    """The source of that name with random weights; shared, so only to be read."""
    return _frozen(source_name)


@pytest.fixture
def source_of():
    """Sources by name with random weights; shared, so only to be read."""
    return _frozen


@pytest.fixture
def vgg16() -> Source:
    """VGG-16 with random weights; shared, so only to be read."""
    return _frozen("vgg16")
