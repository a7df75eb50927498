"""What the system tells of a folder's files as they change: a bounded queue of paths."""

import os
import queue
from collections.abc import Iterator
from pathlib import Path

from kdad.errors import InputError

_MOST = 10_000


class FileEvents:
    """Listens to a folder and all below; raises `InputError` where that takes a package, or cannot be.

    When more is told than is taken, the rest is lost, and the folder has to be looked through.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from watchdog.events import FileSystemEvent, FileSystemEventHandler
            from watchdog.observers import Observer
        except ImportError as error:
            raise InputError(
                'inference.watch takes the package watchdog: `pip install "kdad[watch]"`, or set '
                "inference.watching.polling=true"
            ) from error
        told, self._lost = queue.Queue(_MOST), False
        self._told: queue.Queue[tuple[Path, bool]] = told

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.is_directory:
                    notices._lost |= event.event_type in ("moved", "created")  # with files that are not told of
                    return
                place = event.dest_path if event.event_type == "moved" else event.src_path
                if event.event_type not in ("created", "modified", "moved", "closed"):
                    return
                try:
                    told.put_nowait((Path(os.fsdecode(place)), event.event_type in ("moved", "closed")))
                except queue.Full:
                    notices._lost = True

        notices = self
        self._observer = Observer()
        try:
            self._observer.schedule(Handler(), str(folder), recursive=True)
            self._observer.start()
        except OSError as error:
            raise InputError(
                f"'{folder}' cannot be listened to ({error}); set inference.watching.polling=true"
            ) from error

    def taken(self) -> Iterator[tuple[Path, bool]]:
        """Yield what was told since: paths, and whether the file was closed or moved there."""
        while True:
            try:
                yield self._told.get_nowait()
            except queue.Empty:
                return

    def lost(self) -> bool:
        """Tell whether anything was lost since this was last asked."""
        lost, self._lost = self._lost, False
        return lost

    def close(self) -> None:
        """Stop listening."""
        self._observer.stop()
        self._observer.join()
