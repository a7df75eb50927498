"""Projects of their own for tests: this configuration and code, with outputs and MLflow runs elsewhere."""

import io
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import kedro.framework.project
import mlflow
import pytest
from filelock import FileLock
from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdad.detectors.registry import SYSTEMS

PROJECT = Path(__file__).resolve().parents[1]
#: The systems that have rows of the baselines and of the papers' tables without being named.
STANDING = [name for name, known in SYSTEMS.items() if known.Settings.stands_among_baselines]
#: The figures of a run, each for pages and for papers.
FIGURES = [f"{name}.{kind}" for name in ("roc", "pro", "score_histogram", "loss") for kind in ("png", "svg")]
#: Textures of few images: 12 to train on, 5 held out, 4 good ones and one of each defect to test.
FEW = {"train_images": 12, "validation_images": 5, "test_normal": 4, "test_per_defect": 1}
#: The same for `--params`.
FEW_GIVEN = ",".join(f"dataset.textures.{name}={count}" for name, count in FEW.items())
#: What makes a run small beyond the environment `test`: few images, and few of them on a sheet.
SMALL = {"dataset": {"textures": FEW}, "reporting": {"sheet_rows": 1, "case_sheet_rows": 1}}


def once_a_session(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first test that asks has filled by `make`, for all workers of a session; to be read."""
    # Workers have folders beside each other; alone, a session has one.
    base = factory.getbasetemp()
    session = base.parent if base.name.startswith("popen-gw") else base
    with FileLock(session / f"{name}.lock"):
        if not (session / name).exists():
            unfinished = session / f"{name}.tmp"
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(session / name)
    return session / name


def copy_project(folder: Path, database: Path) -> Path:
    """Make a project of this configuration and code in `folder`, whose outputs and MLflow runs lie there."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(PROJECT / "conf", folder / "conf")
    (folder / "conf/test/globals.yml").unlink()  # nothing is here that a trial run could replace
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "data/01_raw").mkdir(parents=True)
    (folder / "src").mkdir()  # Kedro wants it to be there; the installed package is used
    shutil.copy(database, folder / "mlflow.db")
    return folder


def run_pipeline(
    project: Path, env: str = "test", pipeline: str = "__default__", drawn: bool = False, **options
) -> None:
    """Run a pipeline of `project` in this process; `options` go to Kedro (``runtime_params``, or those of ``run``).

    With the option ``pipeline_names`` these are run together instead. Figures are made, and saved as one that stands
    for all, unless they are to be `drawn`: that takes half of a small run.
    """
    if kedro.framework.project.PACKAGE_NAME is None:  # it is the same package for every project, and slow to read
        bootstrap_project(project)
    runtime = options.pop("runtime_params", {})
    with pytest.MonkeyPatch.context() as patched:
        if not drawn:
            patched.setattr(Figure, "savefig", _save_any)
        with settings.SESSION_CLASS.create(project_path=project, env=env, runtime_params=runtime) as session:
            session.run(**({"pipeline_names": [pipeline]} | options))


@cache
def _any_figure(kind: str) -> bytes:
    figure, buffer = Figure((1, 1)), io.BytesIO()
    figure.subplots()
    FigureCanvasAgg(figure).print_figure(buffer, format=kind)
    return buffer.getvalue()


def _save_any(figure: Figure, place: io.BytesIO | Path, format: str = "png", **options) -> None:
    content = _any_figure(format)
    place.write_bytes(content) if isinstance(place, Path) else place.write(content)


def half_written(project: Path) -> list[Path]:
    """Return what a finished run must not leave: files and folders under temporary names, and checkpoints."""
    return [path for path in project.rglob("*") if path.suffix in (".tmp", ".partial", ".older", ".checkpoint")]


def logged_runs(project: Path) -> list[mlflow.entities.Run]:
    """Return every MLflow run of `project`, children too, the latest first."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiments = [found.experiment_id for found in client.search_experiments()]
    return client.search_runs(experiments, max_results=1000, order_by=["attributes.start_time DESC"])


def artifacts_of(project: Path, run: mlflow.entities.Run, folder: str | None = None) -> set[str]:
    """Return the names of what a run has logged, at the top or in `folder`."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return {found.path for found in client.list_artifacts(run.info.run_id, folder)}


def kept_by(project: Path, run: mlflow.entities.Run) -> set[str]:
    """Return the names of the files of the detector that a run has logged as a model."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (logged,) = client.get_run(run.info.run_id).outputs.model_outputs
    place = Path(client.get_logged_model(logged.model_id).artifact_location) / "artifacts/detector"
    return {path.name for path in place.iterdir()}
