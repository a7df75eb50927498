"""How long MLflow may try what does not answer."""

import os


def limit_patience() -> None:
    """Have a server that is down told of within seconds, where MLflow by itself tries for four minutes.

    What the environment says already stays.
    """
    for name, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "10"), ("BACKOFF_FACTOR", "1")):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
