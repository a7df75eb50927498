"""In which number formats a cache keeps a network's outputs and the images."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdad.errors import InputError

#: NumPy's type of the file; it knows no bfloat16, whose bits are kept.
_OUTPUTS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
_IMAGES = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_AS_COMPUTED = "auto"
_STEPS = 255


@dataclass(frozen=True)
class Storage:
    """Formats on disk: outputs float32, float16, bfloat16 or ``auto``, as computed; images float32, float16 or uint8.

    What is read is float32 again. float16 has 11 significant bits and ends at 65,504, bfloat16 8 bits and no such end.
    """

    outputs: str = _AS_COMPUTED
    images: str = "float32"

    def named(self) -> dict[str, Any]:
        """Return what a manifest says of it, nothing where it is as computed."""
        return {"storage": asdict(self)} if self != Storage() else {}

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> "Storage":
        """Return that of a cache, `auto` resolved."""
        found = cls(**manifest.get("storage", {}))
        computed = "bfloat16" if manifest["dtype"] == "bfloat16" else "float32"
        return cls(computed if found.outputs == _AS_COMPUTED else found.outputs, found.images)

    @property
    def types(self) -> tuple[Any, Any]:
        """NumPy's types of the files of outputs and of images."""
        return _OUTPUTS[self.outputs], _IMAGES[self.images]

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of a value of an output, and of an image."""
        outputs, images = self.types
        return np.dtype(outputs).itemsize, np.dtype(images).itemsize

    def write_outputs(self, outputs: Tensor, name: str) -> np.ndarray:
        """Return an output as it is kept; raises `InputError` where float16 cannot hold it."""
        if self.outputs == "bfloat16":
            return outputs.to(torch.bfloat16).view(torch.uint16).numpy()
        kept = outputs.to(getattr(torch, self.outputs)).numpy()
        if self.outputs == "float16" and not np.isfinite(kept).all():
            raise InputError(
                f"activations of {name} do not fit float16 (their largest is {float(outputs.abs().max()):.3g}); set "
                "features.outputs_on_disk=bfloat16"
            )
        return kept

    def read_outputs(self, kept: np.ndarray) -> Tensor:
        """Return an output, float32."""
        found = torch.from_numpy(kept)
        return (found.view(torch.bfloat16) if self.outputs == "bfloat16" else found).float()

    def write_images(self, images: np.ndarray) -> np.ndarray:
        """Return images in [0, 1] as they are kept."""
        scaled = np.round(images * _STEPS) if self.images == "uint8" else images
        return scaled.astype(_IMAGES[self.images])

    def read_images(self, kept: np.ndarray) -> Tensor:
        """Return images in [0, 1], float32."""
        found = torch.from_numpy(kept).float()
        return found / _STEPS if self.images == "uint8" else found
