"""One run at a time writes to a place, and a place remembers whose results it holds."""

import hashlib
import logging
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from kdad.datasets.place import file_of
from kdad.errors import PLAIN, InputError
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.places import DATA, RECORD, OutputFolder, release, reserve
from kdad.storage.replacing import ProcessLock

logger = logging.getLogger(__name__)

_LOCKS = ".locks"
#: The layer of patches of natural images, which no root has a part in.
_OF_NO_ROOT = "05_model_input"


class PlacesHook:
    """Locks every place that a run writes to, from before its first node to its end, and records whose results it has.

    A run that meets another one there ends with a message, before anything of it is logged or written. Kedro runs one
    session at a time in a process: what an earlier session still holds, being interrupted, is the next one's. Results
    that go elsewhere than usual are said.
    """

    def __init__(self) -> None:
        self._loader: Any = None
        self._held: list[ProcessLock] = []
        self._new: list[tuple[Path, OutputFolder]] = []

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the loader, which knows the folder that results are written below, and whose they are."""
        self._loader = context.config_loader

    @hook_impl(wrapper=True, tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> Generator[None, Any, Any]:
        """Take the places; raises `CommandLineError` that names the process, or the root, which has one."""
        self._free()
        data = Path(run_params["project_path"]) / self._outputs
        try:
            places = places_written(pipeline, catalog, data)
            for place in places:
                self._lock(place, data / _LOCKS)
            # Of two runs begun at once on roots of one name the second has been refused.
            for claim in self._loader.claims if self._loader is not None else []:
                if claim.place in places:
                    self._reserve(claim, data)
            return (yield)
        except BaseException:  # here or in another hook: the run does not begin
            self._give_back()
            raise

    @hook_impl(wrapper=True)
    def after_pipeline_run(self) -> Generator[None, Any, Any]:
        """Free the places, when the other hooks are done with them."""
        try:
            return (yield)
        finally:
            self._free()

    @hook_impl(wrapper=True)
    def on_pipeline_error(self) -> Generator[None, Any, Any]:
        """Give the places back."""
        try:
            return (yield)
        finally:
            self._give_back()

    @property
    def _outputs(self) -> str:
        return DATA if self._loader is None else self._loader.outputs

    def _lock(self, place: str, folder: Path) -> None:
        lock = ProcessLock(folder / f"{_file_name(place)}.lock")
        try:
            taken = lock.take(wait=False)
        except InputError as error:  # the folder is for reading alone
            raise CommandLineError(str(error), ExitCode.UNUSABLE_INPUT) from error
        if not taken:
            raise CommandLineError(
                f"another run is writing to '{place}': {lock.holder()}. Wait until it ends, run another category, or "
                "use a second checkout",
                ExitCode.OCCUPIED,
            )
        self._held.append(lock)

    def _reserve(self, claim: OutputFolder, data: Path) -> None:
        try:
            if reserve(data, claim):
                self._new.append((data, claim))
        except InputError as error:  # another root has taken it since the catalog was made
            raise CommandLineError(str(error), ExitCode.OCCUPIED) from None
        if claim.taken is not None:
            logger.info(
                "Results of '%s' lie in %s/*/%s, as %s/*/%s holds those of another root of that name",
                *(claim.root, self._outputs, claim.place, self._outputs, claim.taken),
                extra=PLAIN,
            )

    def _give_back(self) -> None:
        """Free the places, and forget new ones where nothing of the root was left: one that was mistyped, say."""
        for data, claim in self._new:
            layers = (layer for layer in data.iterdir() if layer.name != _OF_NO_ROOT)
            files = (path for layer in layers for path in (layer / claim.place).rglob("*") if path.is_file())
            if all(path.name == RECORD for path in files):
                release(data, claim)
        self._free()

    def _free(self) -> None:
        self._new = []
        while self._held:
            self._held.pop().free()


def places_of(files: Iterable[Path], data: Path) -> list[str]:
    """Return what runs that write these files must not share: ``<dataset>/<category>`` in `data`, folders elsewhere.

    Files in `data` lie at ``<layer>/<dataset>/<category>/...``; what the categories of a data set share, such as the
    results of a plan over several, has its own name in the category's stead.
    """
    found: set[str] = set()
    for file in files:
        path = file.resolve()
        if path.is_relative_to(data) and len(path.relative_to(data).parts) > 2:
            _, *place = path.relative_to(data).parts
            found.add("/".join(place[:2]))
        else:
            found.add(str(path.parent if path.suffix else path))
    return sorted(found)  # the same order in every process


def places_written(pipeline: Any, catalog: Any, data: Path) -> list[str]:
    """Return the places, as `places_of` does, of the files that a pipeline writes."""
    datasets = [catalog.get(name) for name in pipeline.all_outputs()]
    files = [file_of(dataset) for dataset in datasets if hasattr(dataset, "_filepath")]
    return places_of(files, data.resolve())


def _file_name(place: str) -> str:
    """Return a readable file name that is of this place alone."""
    readable = "".join(letter if letter.isalnum() else "_" for letter in place)[-60:]
    return f"{readable}.{hashlib.sha256(place.encode()).hexdigest()[:8]}"
