"""What a worker does of a pipeline: one node, with the data sets that it takes and makes."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline.node import Node

from kdad.errors import InputError
from kdad.storage.provenance import code_digest

#: A worker may have several threads, and torch's generator, which training seeds, is one for all of them.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Site:
    """Where a run was begun: the folder that relative paths start from, and a digest of the code."""

    folder: str
    code: str


def code_of_work() -> str:
    """Return a digest of the code behind every case."""
    return code_digest("kdad.pipelines.comparison.nodes", "kdad.detectors.registry")


def is_memory(dataset: Any) -> bool:
    """Tell whether a data set is of one process alone, and has to be sent."""
    return isinstance(dataset, MemoryDataset)


def catalog_of(node: Node, catalog: Any) -> DataCatalog:
    """Return a catalog of what a node takes and makes: the whole one of a thousand cases is large to send."""
    return DataCatalog({name: catalog.get(name) for name in {*node.inputs, *node.outputs}})


def run_node(node: Node, catalog: DataCatalog, site: Site, begun: Callable[[], None]) -> dict[str, Any]:
    """Run a node, save what it makes, and return what of it lies in no file; `begun` is called as it begins.

    Raises `InputError` where this machine does not have the run's folder, or another version of the code.
    """
    with _ONE_AT_A_TIME:
        _settle(site)
        begun()
        made = node.run({name: catalog.load(name) for name in node.inputs})
        kept = {name: data for name, data in made.items() if is_memory(catalog.get(name))}
        for name, data in made.items():
            if name not in kept:
                catalog.save(name, data)
        return kept


@cache
def _settle(site: Site) -> None:
    """Go to the run's folder, once in a process."""
    host = os.uname().nodename if hasattr(os, "uname") else "this worker's host"
    if not Path(site.folder).is_dir():
        raise InputError(
            f"the worker on {host} has no folder '{site.folder}'; workers need the run's folder at the same path, on a "
            "disk that all hosts share"
        )
    if code_of_work() != site.code:
        raise InputError(
            f"the worker on {host} has other code of kdad than this run; install the same version there, and start "
            "the worker again"
        )
    os.chdir(site.folder)
