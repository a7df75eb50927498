"""From Python: a folder and a system's name to a detector, by the same steps as a run."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from weakref import finalize

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.former import former_lines
from kdad.parameters.strict import bind, nearest_name
from kdad.storage.content_store import Stores

if TYPE_CHECKING:
    from kdad.detectors.detector import Detector


def fit(
    folder: str | Path,
    system: str = "mkd",
    image_size: int | list[int] = 256,
    category: str | None = None,
    seed: int = 0,
    device: str = "auto",
    stores: str | Path | None = None,
    dataset: dict[str, Any] | None = None,
    **blocks: dict[str, Any],
) -> "Detector":
    """Train a detector on the good images below a folder: ``kdad.fit("FOLDER", image_size=128).predict("part.png")``.

    `folder` has any layout that a run understands; `category` is a folder in it. `blocks` are a system's parameter
    blocks, where they are to differ from their defaults, as ``cloner={"training": {"epochs": 20}}``; `dataset` is
    more of that block. The detector has a threshold, ``metrics``, and is kept by ``save``. With `stores`, a folder,
    what networks gave and learnt is found again by a later call. Raises `InputError` for parameters before torch is
    imported, and for images before anything is trained.
    """
    if system not in SYSTEMS:
        raise InputError(f"there is no system '{system}'{nearest_name(system, list(SYSTEMS))}")
    former = former_lines(blocks | {"dataset": dataset or {}})
    if former:
        raise InputError("\n".join(["parameters of an earlier version:", *former]))
    known = SYSTEMS[system].Settings.model_fields
    for name in blocks:
        if name not in known:
            raise InputError(f"{system} has no parameter block '{name}'{nearest_name(name, list(known))}")
    wanted = {"name": "folder", "root": str(folder), "category": category, "image_size": image_size}
    images = bind(DatasetParameters, wanted | (dataset or {}), "dataset")
    settings = bind(SYSTEMS[system].Settings, {name: blocks.get(name, {}) for name in known}, system)
    from kdad.experiments.steps import fit_folder  # here, since torch comes with it

    temporary = TemporaryDirectory(prefix="kdad-") if stores is None else None
    place = Path(stores).expanduser() if temporary is None else Path(temporary.name)
    made = fit_folder(system, settings, images, seed, device, Stores.below(place))
    if temporary is not None:  # weights that came from a file lie in it, as long as the detector is there
        finalize(made, temporary.cleanup)
    return made
