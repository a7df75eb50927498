"""A trained teacher as a frozen network: its descriptors of the patch around every so many pixels."""

import shutil
from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.features.network import FrozenReference
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.points import CriticalPoint
from kdad.networks.weights import fingerprint_state


class DenseTeacher(nn.Module):
    """Gives one output, the descriptors `(B, d, ceil(H / stride), ceil(W / stride))` of images `(B, 3, H, W)`."""

    def __init__(self, descriptor: PatchDescriptor, stride: int) -> None:
        super().__init__()
        self.descriptor, self.stride = descriptor, stride

    def forward(self, images: Tensor) -> list[Tensor]:
        """Describe the patch around every `stride`-th pixel."""
        return [self.descriptor.dense(images, self.stride)]

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Return the shape of the descriptors of images of `size` (H, W)."""
        height, width = (-(-side // self.stride) for side in size)
        name = f"p{self.descriptor.patch_size}"
        return [CriticalPoint(name, self.descriptor.depth, height, width, signed=True)]


class TeacherReference(FrozenReference):
    """A teacher by what it is and its weights' hash."""

    receptive_field: int = Field(description="pixels")
    depth: int = Field(description="numbers in a descriptor")
    width: float = Field(description="of hidden layers")
    stride: int = Field(description="pixels between descriptors")
    weights: str = Field(description="the safetensors file")

    def open(self) -> DenseTeacher:
        """Read the teacher, frozen; raises `InputError` when the file is gone, unreadable or another teacher's."""
        path = Path(self.weights)
        if not path.is_file():
            raise InputError(f"there is no teacher '{path}'; run the pipeline 'teacher' first")
        try:
            state = load_file(path)
            descriptor = PatchDescriptor(self.receptive_field, self.depth, self.width)
            descriptor.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise InputError(
                f"'{path}' is not the teacher asked for (receptive field {self.receptive_field}, depth {self.depth}, "
                f"width {self.width}): {str(error).splitlines()[0]}; run the pipeline 'teacher' with these settings"
            ) from error
        if fingerprint_state(state) != self.fingerprint:
            raise InputError(f"'{path}' is another teacher: its hash is not {self.fingerprint}; take the right one")
        return DenseTeacher(descriptor, self.stride).requires_grad_(False).eval()

    def keep(self, folder: Path, name: str) -> "TeacherReference":
        """Copy the weights to `folder`."""
        target = folder / f"teacher_{name}.safetensors"
        shutil.copyfile(self.weights, target)
        return self.model_copy(update={"weights": target.name})

    def within(self, folder: Path) -> "TeacherReference":
        """Return the reference with the weights that `keep` copied to `folder`."""
        if Path(self.weights).is_absolute():
            return self
        return self.model_copy(update={"weights": str((folder / self.weights).resolve())})
