"""A place that a run writes to remembers whose results it holds."""

import logging
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from kdad.errors import InputError
from kdad.hooks.place_lock import DATA, places_written
from kdad.logs import PLAIN
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.places import RECORD, OutputFolder, release, reserve

logger = logging.getLogger(__name__)

#: The layer of patches of natural images, which no root has a part in.
_OF_NO_ROOT = "05_model_input"


class PlaceOwnerHook:
    """Records the root of every place that a run writes to, and says when results go elsewhere than usual.

    Runs once the places are locked, so that of two runs begun at once on roots of one name the second is refused.
    """

    def __init__(self) -> None:
        self._loader: Any = None
        self._new: list[tuple[Path, OutputFolder]] = []

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the loader, which knows the claims when the catalog is made."""
        self._loader = context.config_loader

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Take the places; raises `CommandLineError` when another root has taken one since the catalog was made."""
        data = Path(run_params["project_path"]) / DATA
        written = set(places_written(pipeline, catalog, data))
        self._new = []
        for claim in self._loader.claims if self._loader is not None else []:
            if claim.place not in written:
                continue
            try:
                if reserve(data, claim):
                    self._new.append((data, claim))
            except InputError as error:
                raise CommandLineError(str(error), ExitCode.OCCUPIED) from None
            if claim.taken is not None:
                logger.info(
                    "Results of '%s' lie in %s/*/%s, as %s/*/%s holds those of another root of that name",
                    *(claim.root, DATA, claim.place, DATA, claim.taken),
                    extra=PLAIN,
                )

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Give back new places where nothing of the root was left: one that was mistyped does not keep the name."""
        for data, claim in self._new:
            layers = (layer for layer in data.iterdir() if layer.name != _OF_NO_ROOT)
            files = (path for layer in layers for path in (layer / claim.place).rglob("*") if path.is_file())
            if all(path.name == RECORD for path in files):
                release(data, claim)
        self._new = []
