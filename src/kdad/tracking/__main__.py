"""Write to MLflow what waits: ``python -m kdad.tracking [FOLDER]``, by default ``mlruns/waiting``."""

import sys
from pathlib import Path

from kdad.errors import first_line
from kdad.tracking.destination import Destination, limit_patience
from kdad.tracking.run import runs_in
from kdad.tracking.uploader import write_left_runs


def main(waiting: Path) -> int:
    """Write every run of a process that is gone to where it belongs; return 1 when some could not be written."""
    limit_patience()
    from kdad.tracking.writer import MlflowWriter

    destinations = {tuple(sorted(run.head["destination"].items())) for run in runs_in(waiting)}
    failed = 0
    for facts in destinations:
        destination = Destination(**dict(facts))
        try:
            settled = write_left_runs(waiting, MlflowWriter(destination))
            print(f"{destination.uri}: {settled} runs sent")
        except Exception as error:  # whatever a server or a database says
            print(f"{destination.uri}: {first_line(error)}", file=sys.stderr)
            failed = 1
    if not destinations:
        print(f"nothing waits in {waiting}")
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "mlruns/waiting")))
