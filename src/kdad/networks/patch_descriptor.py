"""Networks that describe a patch of exactly p x p pixels, and their dense form over a whole image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdad.errors import InputError
from kdad.networks.parameters import check_size
from kdad.seeding import torch_seed

_LEAK = 5e-3


@dataclass(frozen=True)
class Convolution:
    """A valid convolution; `channels` at width 1, None for the descriptor's own."""

    kernel: int
    channels: int | None


@dataclass(frozen=True)
class Pool:
    """A 2 x 2 max-pool."""


#: Layers by receptive field p (Bergmann et al. 2020, appendix). The printed kernels 5, 5, 2, 4 and 5, 5, 5, 4, 1 see
#: only 32 and 60 pixels and drop odd rows before pools; the even kernels here see 33 and 65 and drop nothing.
LAYERS: dict[int, tuple[Convolution | Pool, ...]] = {
    17: (Convolution(6, 128), Convolution(5, 256), Convolution(5, 256), Convolution(4, None)),
    33: (
        *(Convolution(6, 128), Pool(), Convolution(5, 256), Pool()),
        *(Convolution(2, 256), Convolution(4, None)),
    ),
    65: (
        *(Convolution(6, 128), Pool(), Convolution(5, 128), Pool(), Convolution(6, 256), Pool()),
        *(Convolution(4, 256), Convolution(1, None)),
    ),
}


def receptive_field(layers: tuple[Convolution | Pool, ...]) -> int:
    """Return the side in pixels of what one output sees: each layer adds (kernel - 1) times the steps before it."""
    side, step = 1, 1
    for layer in layers:
        side += ((layer.kernel if isinstance(layer, Convolution) else 2) - 1) * step
        step *= 2 if isinstance(layer, Pool) else 1
    return side


class PatchDescriptor(nn.Module):
    """A network that describes a patch of `patch_size` pixels by `depth` numbers; `width` scales its hidden channels.

    Images come in [0, 1]. Raises `InputError` for an unknown patch size, or a depth or width that is not positive.
    """

    def __init__(self, patch_size: int, depth: int = 128, width: float = 1.0) -> None:
        super().__init__()
        if patch_size not in LAYERS:
            raise InputError(f"receptive field {patch_size} is unknown; choose from {', '.join(map(str, LAYERS))}")
        if depth < 1 or width <= 0:
            raise InputError(f"depth is {depth} and width {width}; both must be positive")
        self.patch_size, self.depth = patch_size, depth
        layers: list[nn.Module] = []
        channels = 3
        for layer in LAYERS[patch_size]:
            if isinstance(layer, Pool):
                # Before the activation, which is monotone: the same result on a quarter of the values.
                layers.insert(-1, nn.MaxPool2d(2))
                continue
            out = depth if layer.channels is None else max(round(layer.channels * width), 1)
            layers.append(nn.Conv2d(channels, out, layer.kernel))
            if layer.channels is not None:
                layers.append(nn.LeakyReLU(_LEAK))
            channels = out
        self.layers = nn.Sequential(*layers)

    def forward(self, patches: Tensor) -> Tensor:
        """Describe patches `(B, 3, p, p)` as `(B, depth)`; raises `InputError` for patches of another size."""
        if patches.shape[-2:] != (self.patch_size, self.patch_size):
            height, width = patches.shape[-2:]
            raise InputError(f"patches are {height} x {width}, but the network describes {self.patch_size} pixels")
        return self.layers(_centred(patches))[..., 0, 0]

    def dense(self, images: Tensor, stride: int = 1) -> Tensor:
        """Describe the patch around every `stride`-th pixel of images `(B, 3, H, W)` in one pass.

        Returns `(B, depth, ceil(H / stride), ceil(W / stride))`: at (i, j) is `forward` of the patch centred on pixel
        (i * stride, j * stride). Patches that reach beyond the border see the image mirrored. Pools keep their step
        until it is `stride`; from there on they move by one pixel and later kernels are spread out, so that only what
        is asked for is computed. Raises `InputError` for images that `pad_for` refuses and a stride other than 1, 2, 4.
        """
        x = _centred(pad_for(images, self.patch_size, stride))
        step = spread = 1  # pixels between neighbours; how far kernels are spread, in neighbours
        last = self.layers[-1]
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                skip = stride // step if layer is last else 1
                x = F.conv2d(x, layer.weight, layer.bias, skip, 0, spread)
            elif isinstance(layer, nn.MaxPool2d) and step < stride:
                x, step = F.max_pool2d(x, 2, 2), step * 2
            elif isinstance(layer, nn.MaxPool2d):
                x, spread = F.max_pool2d(x, 2, 1, dilation=spread), spread * 2
            else:
                x = layer(x)
        return x


class StudentEnsemble(nn.Module):
    """M networks of one form that share nothing but their input.

    They run one after another within a pass: as groups of one convolution they are slower
    (``benchmarks/bench_students.py``). Member k starts from the same weights in an ensemble of any size.
    """

    def __init__(self, members: int, patch_size: int, depth: int, width: float, seed: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.members = nn.ModuleList()
        for member in range(members):
            with torch_seed(seed, "student", patch_size, member):
                self.members.append(PatchDescriptor(patch_size, depth, width))

    def dense(self, images: Tensor, stride: int = 1) -> Tensor:
        """Return `(B, M, depth, h, w)`, each member's `PatchDescriptor.dense`."""
        return torch.stack([member.dense(images, stride) for member in self.members], dim=1)


def pad_for(images: Tensor, patch_size: int, stride: int = 1) -> Tensor:
    """Mirror images `(B, 3, H, W)` beyond their borders, so that every pixel is the centre of a whole patch.

    Raises `InputError` for images that `check_size` refuses and a stride other than 1, 2 or 4.
    """
    height, width = images.shape[-2:]
    check_size((height, width), patch_size)
    if stride not in (1, 2, 4):
        raise InputError(f"stride is {stride}; it must be 1, 2 or 4")
    radius = patch_size // 2
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    # End with the last position's patch, so that no position beyond it is computed.
    rows, columns = ((side - 1) // stride * stride + patch_size for side in (height, width))
    return padded[..., :rows, :columns]


def _centred(images: Tensor) -> Tensor:
    return images * 2 - 1
