"""How MLflow behaves in this process: how long it tries what does not answer, and what it says to whom."""

import os

_SETTINGS = {
    "HTTP_REQUEST_MAX_RETRIES": "0",  # a request is repeated by who can tell whether it was done before
    "HTTP_REQUEST_TIMEOUT": "60",  # of a server at work on a large file; no run's end waits for it
    "DISABLE_TELEMETRY": "true",
    "ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def limit_patience() -> None:
    """Have a server that is down told of within seconds, where MLflow by itself tries for four minutes.

    Nor does MLflow report its use to its makers, draw bars, or print the addresses of each run. What the environment
    says already stays; to be called before MLflow is imported.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
