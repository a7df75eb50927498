"""Image files that arrive in a folder, each when it is complete, in the order in which that comes about."""

import os
import queue
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.decoding import is_image
from kdad.images.layouts.layout import mask_folder
from kdad.inference.parameters import WatchingParameters

#: Files that are known to wait; more are found when these are done.
MOST_WAITING = 10_000
_RESCAN_SECONDS = 30.0  # beside events, which a system may lose
_MOST_EVENTS = 10_000  # that wait to be taken
_LONGEST_SLEEP = 0.2  # so that a signal is heard soon

#: What tells one content of a file from the next: its size, and when it was written, in nanoseconds.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Arrival:
    """A complete file: its path, its name from the folder on, with slashes, and its stamp."""

    path: Path
    name: str
    stamp: Stamp


@dataclass
class _Waiting:
    stamp: Stamp
    due: float  # when the file counts as complete, if it stays so


class IncomingFiles:
    """Complete image files at or below a folder that are not `done` yet; hidden ones, links to folders and masks apart.

    A file is complete when its stamp stays the same for `settle_seconds`, or at once when the system says that it was
    closed or moved there. One that is written again later is a new arrival.
    """

    def __init__(self, folder: Path, done: dict[str, Stamp], parameters: WatchingParameters) -> None:
        self.folder, self._done, self._parameters = folder, done, parameters
        self._waiting: dict[str, _Waiting] = {}  # in the order in which files were noticed
        self._tried: dict[str, Stamp] = {}
        self._next_scan = 0.0
        self._overfull = False
        self._notices = None if parameters.polling else FileEvents(folder)

    def close(self) -> None:
        """Stop listening."""
        if self._notices is not None:
            self._notices.close()

    @property
    def waiting(self) -> int:
        """How many files are known that are not done."""
        return len(self._waiting)

    def take(self, most: int) -> list[Arrival]:
        """Return up to `most` complete files, the earliest first; none after a short while without any.

        They are not returned again, unless they are put back or written again.
        """
        self._look()
        complete = self._complete(most)
        if not complete:
            time.sleep(self._pause())
        return complete

    def put_back(self, arrival: Arrival) -> None:
        """Have a file come again that was written while it was looked at."""
        self._notice(arrival.path)

    def finish(self, arrival: Arrival) -> None:
        """Count a file as done."""
        self._done[arrival.name] = arrival.stamp
        self._tried.pop(arrival.name, None)

    def try_again(self, arrival: Arrival) -> bool:
        """Have an unreadable file come once more after `patience_seconds`; False when it has been tried again."""
        if self._tried.get(arrival.name) == arrival.stamp:
            return False
        self._tried[arrival.name] = arrival.stamp
        self._put(arrival.name, arrival.stamp, time.monotonic() + self._parameters.patience_seconds)
        return True

    def stamp_of(self, path: Path) -> Stamp | None:
        """Return the stamp of a file as it is now; None when it is gone, or no file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return (found.st_size, found.st_mtime_ns) if os.path.isfile(path) else None  # noqa: PTH113 (never raises)

    def _look(self) -> None:
        if self._notices is not None:
            for path, closed in self._notices.taken():
                self._notice(path, closed)
            if self._notices.lost():
                self._next_scan = 0.0
        now = time.monotonic()
        if now >= self._next_scan and not (self._overfull and len(self._waiting) > MOST_WAITING // 2):
            self._scan()
            pause = _RESCAN_SECONDS if self._notices is not None else self._parameters.poll_seconds
            self._next_scan = 0.0 if self._overfull else time.monotonic() + pause

    def _scan(self) -> None:
        self._overfull = False
        found = []
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [path for name in files if is_image(path := Path(folder, name))]
        new = [(stamp[1], str(path), path) for path in found if (stamp := self._news(path)) is not None]
        for _, _, path in sorted(new):  # what came while nobody looked: by the time of writing
            self._notice(path)

    def _news(self, path: Path) -> Stamp | None:
        """Return a file's stamp when it is not done; None for one that is."""
        stamp = self.stamp_of(path)
        return None if stamp is None or self._done.get(self._name(path)) == stamp else stamp

    def _notice(self, path: Path, closed: bool = False) -> None:
        if not self._belongs(path) or (stamp := self._news(path)) is None:
            return
        name, now = self._name(path), time.monotonic()
        known = self._waiting.get(name)
        if known is not None and known.stamp == stamp:
            known.due = min(known.due, now) if closed else known.due
            return
        if known is None and len(self._waiting) >= MOST_WAITING:
            self._overfull, self._next_scan = True, 0.0
            return
        self._put(name, stamp, now if closed else now + self._parameters.settle_seconds)

    def _put(self, name: str, stamp: Stamp, due: float) -> None:
        self._waiting.pop(name, None)
        self._waiting[name] = _Waiting(stamp, due)

    def _complete(self, most: int) -> list[Arrival]:
        now = time.monotonic()
        due = [(name, one) for name, one in self._waiting.items() if one.due <= now]
        found: list[Arrival] = []
        for name, known in sorted(due, key=lambda each: each[1].due):
            if len(found) == most:
                break
            path = self.folder / name
            stamp = self._news(path)
            if stamp == known.stamp:
                found.append(Arrival(path, name, stamp))
                del self._waiting[name]
            elif stamp is None:  # gone, or done
                del self._waiting[name]
            else:
                self._put(name, stamp, now + self._parameters.settle_seconds)
        return found

    def _pause(self) -> float:
        now = time.monotonic()
        soonest: Iterable[float] = (one.due for one in self._waiting.values())
        return max(min(_LONGEST_SLEEP, min(soonest, default=now + _LONGEST_SLEEP) - now), 0.005)

    def _belongs(self, path: Path) -> bool:
        try:
            inside = path.relative_to(self.folder)
        except ValueError:
            return False
        hidden = any(part.startswith(".") for part in inside.parts)
        return is_image(path) and not hidden and mask_folder(path, self.folder) is None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


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
        told, self._lost = queue.Queue(_MOST_EVENTS), False
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

    def taken(self) -> list[tuple[Path, bool]]:
        """Return what was told since: paths, and whether the file was closed or moved there."""
        return [self._told.get_nowait() for _ in range(self._told.qsize())]

    def lost(self) -> bool:
        """Tell whether anything was lost since this was last asked."""
        lost, self._lost = self._lost, False
        return lost

    def close(self) -> None:
        """Stop listening."""
        self._observer.stop()
        self._observer.join()
