"""The UI of runs is one process on the database that the configuration names."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.error import URLError

import mlflow
import psutil
import pytest
from click.testing import CliRunner

from kdad.project.tracking_ui import main
from projects import PROJECT


@pytest.fixture
def experiment(project) -> str:
    """An experiment of the project's database."""
    mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}").create_experiment("only here")
    return "only here"


def test_a_used_port_is_one_message(project, monkeypatch):
    monkeypatch.chdir(project)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = CliRunner().invoke(main, ["--env=test", f"--port={port}"])
    assert ended.exit_code != 0
    assert ended.output.count("\n") <= 3
    assert f"MLflow cannot listen at 127.0.0.1:{port} (Address already in use" in " ".join(ended.output.split())
    assert "MLFLOW_PORT=5001" in ended.output


@pytest.fixture
def server(project, experiment):
    """The UI's address and process, which is ended with all that it has started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "kdad.project.tracking_ui", "--env=test", f"--port={port}"]
    path = {"PYTHONPATH": str(PROJECT / "src")}
    process = subprocess.Popen(command, cwd=project, env=os.environ | path, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}", process
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


def ask(address: str, process: subprocess.Popen) -> bytes:
    """Return the answer of a server that is starting."""
    while process.poll() is None:
        try:
            return urllib.request.urlopen(address).read()
        except URLError:
            time.sleep(0.1)
    raise AssertionError(f"the server has ended with {process.returncode}")


@pytest.mark.long
def test_one_process_shows_the_projects_runs(server, experiment):
    address, process = server
    assert b"MLflow" in ask(address, process)
    assert psutil.Process(process.pid).children(recursive=True) == []
    answer = json.loads(ask(f"{address}/api/2.0/mlflow/experiments/search?max_results=10", process))
    assert experiment in [found["name"] for found in answer["experiments"]]


def test_a_tracking_server_has_its_own(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which would come first
    (project / "conf/test/mlflow.yml").write_text("server: {mlflow_tracking_uri: http://tracking.example:5000}\n")
    found = CliRunner().invoke(main, ["--env=test", f"--conf-source={project / 'conf'}"])
    assert (found.exit_code, "http://tracking.example:5000" in found.output) == (0, True)
