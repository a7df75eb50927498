"""Links that open MLflow's right view: it shows an experiment without its runs unless it is told the kind of work."""

#: Where `make mlflow` shows a local database.
LOCAL_SERVER = "http://127.0.0.1:5000"


def run_link(run_id: str | None, experiment_id: str, tracking_uri: str) -> str:
    """Return the address of a run's page, or, without a run, of the table where an experiment's runs are compared."""
    is_server = tracking_uri.startswith(("http://", "https://"))
    experiment = f"{tracking_uri.rstrip('/') if is_server else LOCAL_SERVER}/#/experiments/{experiment_id}"
    return f"{experiment}?workflowType=machine_learning" if run_id is None else f"{experiment}/runs/{run_id}"
