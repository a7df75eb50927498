"""A trained teacher as a frozen network: its descriptors of the patch around every so many pixels."""

from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.features.network import NetworkReference
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.points import CriticalPoint


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


class TeacherReference(NetworkReference):
    """A teacher by what it is and its weights' hash."""

    prefix = "teacher_"

    receptive_field: int = Field(description="pixels")
    depth: int = Field(description="numbers in a descriptor")
    width: float = Field(description="of hidden layers")
    stride: int = Field(description="pixels between descriptors")

    def open(self) -> DenseTeacher:
        """Read the teacher, frozen; raises `InputError` when the file is gone, unreadable or another teacher's."""
        if not Path(self.weights).is_file():
            raise InputError(f"there is no teacher '{self.weights}'; run the pipeline 'teacher' first")
        state = self.read_weights()
        descriptor = PatchDescriptor(self.receptive_field, self.depth, self.width)
        try:
            descriptor.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"'{self.weights}' is not the teacher asked for (receptive field {self.receptive_field}, depth "
                f"{self.depth}, width {self.width}): {str(error).splitlines()[0]}; run the pipeline 'teacher' with "
                "these settings"
            ) from error
        return DenseTeacher(descriptor, self.stride).requires_grad_(False).eval()
