"""A process that logs a run with children, as `kedro run` does: ``python tracking_client.py FACTS``, which are JSON.

They are ``uri``, ``name``, ``folder`` (of the client's own), ``children``, ``points`` of each metric, ``model`` (a
detector's folder, or null), ``ready`` and ``go``: it touches the one, waits for the other, and prints as JSON how many
``records`` it has sent, in how many ``seconds``, and whether that was ``all``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

METRICS = ("loss", "accuracy")
FILE = "table.bin"


def content_of(name: str) -> bytes:
    """Return the bytes that the run of a name logs as a file."""
    return (f"of {name} " * 500).encode()


def series_of(name: str, metric: str, points: int) -> list[tuple[str, float, int, int]]:
    """Return the values that the run of a name logs of a metric, with times and steps."""
    return [(metric, len(name) + step / 8, 1_700_000_000_000 + step, step) for step in range(points)]


def dataset_of(number: int) -> dict[str, str]:
    """Return the data set of the children of a number: the same with all clients, each of which may be the first."""
    return {"name": "textures", "digest": f"d{number}", "source_type": "kdad", "source": "{}"}


def log(facts: dict[str, Any]) -> dict[str, Any]:
    """Log what the facts say."""
    import kdad.tracking.writer  # noqa: F401  MLflow is imported, which takes seconds, before the clients begin at once
    from kdad.tracking.destination import Destination
    from kdad.tracking.uploader import begin_run

    folder = Path(facts["folder"])
    Path(facts["ready"]).touch()
    while not Path(facts["go"]).exists():
        time.sleep(0.02)
    began = time.monotonic()
    run, uploader = begin_run(Destination(facts["uri"], "kdad", None), folder / "waiting", facts["name"], {}, None)
    run.mark_begun()
    uploader.start()
    records = 0
    for number in range(facts["children"] + 1):
        name = facts["name"] + (f" child {number}" if number else "")
        one = run.child(name, {"axis": "layers"}) if number else run
        one.parameters({f"block.{place}": f"{name} {place}" for place in range(20)})
        for metric in METRICS:
            one.series(series_of(name, metric, facts["points"]))
        one.tags({"said": f"by {name}"})
        one.inputs([{"context": "test", "dataset": dataset_of(number)}])
        (folder / FILE).write_bytes(content_of(name))
        one.artifact(folder / FILE)
        one.text(f"of {name}", "said.txt")
        records += 9  # with its beginning and its end
    if facts["model"] is not None:
        run.model(Path(facts["model"]), ["mlflow"], "brick")
        records += 1
    run.end("FINISHED")
    sent = uploader.finish(120)
    seconds = time.monotonic() - began
    uploader.stop()
    if sent:
        run.remove()
    return {"seconds": seconds, "records": records, "all": sent, "failures": uploader._failures}


if __name__ == "__main__":
    print(json.dumps(log(json.loads(sys.argv[1]))))
