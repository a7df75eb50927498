"""MLflow's server on PostgreSQL: of many clients at once, and of a restarted database, nothing is lost or doubled."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

import tracking_client
from kdad.tracking.destination import Destination
from kdad.tracking.uploader import begin_run
from kdad.tracking.writer import MlflowWriter
from projects import PROJECT
from tracking_client import FILE, METRICS, content_of, dataset_of, series_of

pytestmark = pytest.mark.long

_CLIENTS, _CHILDREN, _POINTS = 8, 4, 50


def _begin(folder: Path, uri: str, names: list[str], model: Path | None) -> list[subprocess.Popen]:
    """Start a client for each name, and let them go when all are ready."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1"}
    clients = []
    for name in names:
        (folder / name).mkdir()
        facts: dict[str, Any] = {"uri": uri, "name": name, "folder": str(folder / name), "go": str(folder / "go")}
        facts |= {"children": _CHILDREN, "points": _POINTS, "ready": str(folder / name / "ready")}
        facts["model"] = model and str(model)
        command = [sys.executable, tracking_client.__file__, json.dumps(facts)]
        clients.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    until = time.monotonic() + 300
    while not all((folder / name / "ready").exists() for name in names):
        assert time.monotonic() < until and all(client.poll() is None for client in clients)
        time.sleep(0.1)
    (folder / "go").touch()
    return clients


def _end(clients: list[subprocess.Popen]) -> list[dict[str, Any]]:
    """Wait for the clients; return what they say of themselves."""
    said = [client.communicate(timeout=400)[0] for client in clients]
    assert [client.returncode for client in clients] == [0] * len(clients)
    return [json.loads(text.splitlines()[-1]) for text in said]


def _check(uri: str, folder: Path, names: list[str]) -> None:
    """Check that all that the clients have logged is there once, and that they keep nothing that was refused."""
    assert not list(folder.glob("*/waiting/*"))
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("kdad").experiment_id
    found = [
        run
        for run in client.search_runs([experiment], max_results=5000)
        if run.info.run_name.partition(" ")[0] in names
    ]
    children = [f"{name} child {number + 1}" for name in names for number in range(_CHILDREN)]
    assert sorted(run.info.run_name for run in found) == sorted([*names, *children])
    by_name = {run.info.run_name: run for run in found}
    for name, run in by_name.items():
        key = run.info.run_id
        parent = by_name[name.partition(" ")[0]].info.run_id if " " in name else None
        assert run.data.tags.get("mlflow.parentRunId") == parent
        assert run.info.status == "FINISHED"
        assert run.data.params == {f"block.{number}": f"{name} {number}" for number in range(20)}
        assert run.data.tags["said"] == f"by {name}"
        number = int(name.rpartition(" ")[2]) if " " in name else 0
        assert [one.dataset.digest for one in run.inputs.dataset_inputs] == [dataset_of(number)["digest"]]
        for metric in METRICS:
            history = [(one.key, one.value, one.timestamp, one.step) for one in client.get_metric_history(key, metric)]
            assert sorted(history, key=lambda one: one[3]) == series_of(name, metric, _POINTS)
        assert {one.path for one in client.list_artifacts(key)} >= {FILE, "said.txt"}
        (folder / "fetched").mkdir(exist_ok=True)
        fetched = client.download_artifacts(key, FILE, str(folder / "fetched"))
        assert Path(fetched).read_bytes() == content_of(name)


def test_eight_clients_at_once(postgres_server, tmp_path, detector_folder):
    names = [f"client{number}" for number in range(_CLIENTS)]
    said = _end(_begin(tmp_path, postgres_server.uri, names, detector_folder))
    assert [one["all"] for one in said] == [True] * _CLIENTS, said
    _check(postgres_server.uri, tmp_path, names)
    client = mlflow.MlflowClient(postgres_server.uri)
    versions = client.search_model_versions("name = 'brick'")
    assert sorted(int(one.version) for one in versions) == list(range(1, _CLIENTS + 1))
    assert len({one.source for one in versions}) == _CLIENTS
    seconds, records = max(one["seconds"] for one in said), sum(one["records"] for one in said)
    print(f"{_CLIENTS} clients: {records} records in {seconds:.1f} s, {records / seconds:.0f} a second")


def test_the_database_is_restarted_while_clients_log(postgres, postgres_server, tmp_path):
    names = ["before", "meanwhile", "after"]
    clients = _begin(tmp_path, postgres_server.uri, names, None)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("*/waiting/*/sent.json")):  # the first run is made
        assert time.monotonic() < until
        time.sleep(0.02)
    postgres.stop()
    time.sleep(5)
    postgres.start()
    said = _end(clients)
    assert [one for one in said if one["failures"]], "the restart came too late"
    for name in names:
        command = [sys.executable, "-m", "kdad.tracking", str(tmp_path / name / "waiting")]
        environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
        subprocess.run(command, env=environment, check=True, timeout=400)
    _check(postgres_server.uri, tmp_path, names)


def test_what_postgresql_cannot_hold_does_not_hold_up_the_rest(postgres_server, tmp_path):
    run, _ = begin_run(Destination(postgres_server.uri, "kdad", None), tmp_path / "waiting", "torn", {}, None)
    run.tags({"error": "a name with \0 in it"})
    run.metrics({"image_auroc": 0.5})
    run.end("FAILED")
    MlflowWriter(Destination(postgres_server.uri, "kdad", None)).write(run)
    found = mlflow.MlflowClient(postgres_server.uri).get_run(run.sent["id"])
    assert (found.info.status, found.data.metrics) == ("FAILED", {"image_auroc": 0.5})
    (aside,) = (run.path / "refused").iterdir()
    assert "NUL" in (aside / "refused.jsonl").read_text()
