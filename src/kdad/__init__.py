"""Knowledge distillation for anomaly detection in images: ``kdad.fit`` trains, ``kdad.load`` opens what was kept."""

import os
from importlib import import_module
from typing import Any

# Read when torch is loaded. Threads that spin while they wait take the cores from every other process, and win nothing
# where there is none (docs/lab/performance.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"

#: What `kdad` has by these names, and where: nothing is imported before it is asked for.
_PUBLIC = {"fit": "kdad.experiments.fitting", "load": "kdad.detectors"}


def __getattr__(name: str) -> Any:
    """Return `fit` or `load`."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdad' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
