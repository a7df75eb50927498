"""Which MLflow a run goes to, and whether it answers."""

import os
import sqlite3
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kdad.tracking.destination import (
    Destination,
    axis_link,
    destination_of,
    place_of_ui,
    run_link,
    unreachable,
)

_LOCAL = {
    "server": {"mlflow_tracking_uri": "sqlite:////place/mlflow.db"},
    "tracking": {"experiment": {"name": "kdad", "create_experiment_kwargs": {"artifact_location": "/place/mlruns"}}},
}


def test_a_local_database_is_told_where_artifacts_lie():
    found = destination_of(_LOCAL, {}, "other")
    assert found == Destination("sqlite:////place/mlflow.db", "kdad", "/place/mlruns")
    assert str(found.database) == "/place/mlflow.db"


def test_a_server_is_told_no_place_of_this_machine():
    configured = _LOCAL | {"server": {"mlflow_tracking_uri": "http://there:5000"}}
    assert destination_of(configured, {}, "other").artifacts is None
    assert destination_of(_LOCAL, {"MLFLOW_TRACKING_URI": "http://there:5000"}, "other").artifacts is None


def test_the_environment_goes_first_and_is_said():
    found = destination_of(
        _LOCAL, {"MLFLOW_TRACKING_URI": "http://there:5000", "MLFLOW_EXPERIMENT_NAME": "mine"}, "other"
    )
    assert (found.uri, found.experiment) == ("http://there:5000", "mine")
    uri, experiment = found.said
    assert "MLFLOW_TRACKING_URI" in uri and "sqlite:////place/mlflow.db" in uri
    assert "MLFLOW_EXPERIMENT_NAME" in experiment and "'kdad'" in experiment


def test_what_the_environment_repeats_is_not_said():
    assert destination_of(_LOCAL, {"MLFLOW_EXPERIMENT_NAME": "kdad"}, "other").said == ()


def test_an_experiment_without_a_name():
    assert destination_of({}, {"MLFLOW_TRACKING_URI": "http://there"}, "other").experiment == "other"


def test_a_database_that_is_not_there_yet_will_be_made(tmp_path):
    assert unreachable(Destination(f"sqlite:///{tmp_path / 'new.db'}", "kdad", None)) is None


def test_a_locked_database(destination, monkeypatch):
    monkeypatch.setattr("kdad.tracking.destination._SECONDS", 0.1)
    assert unreachable(destination) is None
    with sqlite3.connect(destination.database) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in unreachable(destination)
        other.rollback()


class _Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "said"), [(200, None), (404, None), (503, "it answers 503")])
def test_a_server_that_answers(status, said, monkeypatch):
    monkeypatch.setattr(_Answers, "status", status)
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert unreachable(Destination(f"http://127.0.0.1:{server.server_port}", "kdad", None)) == said
        server.shutdown()


def _of_its_own_authority(folder):
    """Write a certificate of this machine that no system knows, and its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key").write_bytes(key.private_bytes(*kinds))
    (folder / "certificate").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(kinds[0]))
    return folder / "certificate", folder / "key"


def test_a_server_whose_certificate_mlflow_alone_knows(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_of_its_own_authority(tmp_path))
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert unreachable(Destination(f"https://127.0.0.1:{server.server_port}", "kdad", None)) is None
        server.shutdown()


def test_a_server_that_is_down():
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        port = server.server_port
    assert "refused" in unreachable(Destination(f"http://127.0.0.1:{port}", "kdad", None))


def test_the_link_of_a_run():
    assert (
        run_link("http://there:1/", "7", "abc")
        == "http://there:1/#/experiments/7/runs/abc?workflowType=machine_learning"
    )


def test_an_axis_is_filtered_and_sorted_by_a_metric():
    place, _, query = axis_link("", "7", "abc", "loss_terms").partition("?")
    assert place == "#/experiments/7/runs"
    options = parse_qs(query)
    assert options["searchFilter"] == ["tags.axis = 'loss_terms' and tags.mlflow.parentRunId = 'abc'"]
    assert options["orderByKey"] == ["metrics.`image_auroc`"]
    assert options["workflowType"] == ["machine_learning"]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sqlite:////place/mlflow.db", "http://127.0.0.1:5001/"),
        ("http://there:8000", "http://there:8000/"),
        ("https://there/mlflow/", "https://there/mlflow/"),
    ],
)
def test_where_the_ui_is(uri, place):
    assert place_of_ui(Destination(uri, "kdad", None), {"host": "127.0.0.1", "port": "5001"}) == place


_POSTS = """
import sys
from kdad.tracking.destination import limit_patience
limit_patience()
import mlflow
try:
    mlflow.MlflowClient(sys.argv[1]).create_run("1")
except mlflow.MlflowException as error:
    print(error)
"""


class _Fails(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_POST(self):
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_mlflow_does_not_repeat_a_request_that_may_have_been_done():
    given = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with HTTPServer(("127.0.0.1", 0), _Fails) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-c", _POSTS, f"http://127.0.0.1:{server.server_port}"]
        said = subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout
        server.shutdown()
    assert "503" in said
    assert len(_Fails.asked) == 1
