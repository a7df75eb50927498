"""Runs that their process did not close, and records that could not be sent, are settled by the next run."""

import logging
from pathlib import Path

from filelock import FileLock, Timeout

from kdad.tracking.delivery import Delivery
from kdad.tracking.spool import Spool

logger = logging.getLogger(__name__)


def close_left_runs(waiting: Path, delivery: Delivery) -> int:
    """Send what dead processes have left in `waiting`, close as KILLED the runs that they left open; count the spools.

    Spools of another destination stay.
    """
    settled = 0
    for spool in Spool.find(waiting):
        if spool.destination != delivery.destination.plain() or not spool.is_orphan:
            continue
        try:
            with FileLock(spool.folder / "closing.lock", timeout=0):
                if spool.has_begun:
                    end_open_runs(spool)
                    delivery.deliver(spool)
                spool.remove()
        except (Timeout, FileNotFoundError):
            continue  # another process is at it
        settled += 1
        logger.info("what an earlier run had left for MLflow was sent")
    return settled


def end_open_runs(spool: Spool) -> None:
    """Add an end, KILLED at the time of their last record, to runs that have none."""
    last = int(spool.last_written() * 1000)
    begun = {key: None for key, facts in spool.sent.items() if "ended" not in facts}
    ended = set()
    for _, record in spool.records():
        if record["what"] == "create":
            begun[record["run"]] = None
        elif record["what"] == "end":
            ended.add(record["run"])
    for key in reversed([key for key in begun if key not in ended]):
        spool.add(key, "end", status="KILLED", time=last)
