"""Where the files of a published set lie: in the folder that is named, or downloaded once by torchvision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.process_lock import one_at_a_time

_DOWNLOAD_ROOT = Path("data/01_raw")


def find_published(
    parameters: DatasetParameters, find: Callable[[Path], Path | None], downloader: Callable[..., Any], absent: str
) -> Path:
    """Return what `find` finds in ``root``, or without ``root`` in data/01_raw, downloading it there first.

    `absent` says in messages, after the folder, that it has not what `find` looks for. Raises `InputError` when it is
    not there and may not or cannot be downloaded.
    """
    root = _DOWNLOAD_ROOT if parameters.root is None else Path(parameters.root).expanduser()
    found = find(root)
    if found is not None:
        return found
    if parameters.root is not None:
        raise InputError(f"dataset.root: {root} {absent}; put the files there")
    if not parameters.download:
        raise InputError(f"{root} {absent}; set dataset.root to their folder, or dataset.download: true")
    try:
        with one_at_a_time(root / f".{parameters.name}.lock", f"'{root}' by a download"):
            if find(root) is None:  # another process has not just fetched it
                downloader(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{parameters.name} could not be downloaded ({reason}); connect to the internet, or set dataset.root to a "
            "folder with the files"
        ) from error
    found = find(root)
    if found is None:
        raise InputError(f"after the download {root} {absent}; fetch the files again")
    return found
