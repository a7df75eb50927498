"""How MLflow behaves in a process that logs."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

_POSTS = """
import sys
from kdad.tracking.patience import limit_patience
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
