"""A source: a frozen network that gives its activations at named critical points."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.networks.points import CriticalPoint
from kdad.parameters.strict import nearest_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


class Source(nn.Module):
    """A network cut after its critical points (Salehi et al. 2021, section 3).

    `stages` maps a critical point's name to the part of the network that ends there, in order; an image passes
    through the parts up to the last point selected. Images come in [0, 1] and are normalised inside.
    """

    def __init__(
        self,
        stages: "OrderedDict[str, nn.Module]",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        sd: tuple[float, ...] = IMAGENET_SD,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.critical_points: tuple[str, ...] = tuple(stages)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(sd).view(1, 3, 1, 1), persistent=False)

    def select(self, names: list[str] | None) -> "Source":
        """Keep the critical points of these names, in the network's order; None keeps all.

        Raises `InputError` for a name that the source does not have.
        """
        known = list(self.stages)
        for name in names or []:
            if name not in known:
                raise InputError(f"source.critical_points: the source has no '{name}'{nearest_name(name, known)}")
        if names is not None and not names:
            raise InputError(f"source.critical_points is empty; choose from: {', '.join(known)}")
        self.critical_points = tuple(name for name in known if names is None or name in names)
        return self

    def normalise_with(self, mean: list[float], sd: list[float]) -> "Source":
        """Replace the input normalisation, one value a channel in the scale of [0, 1]."""
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.sd.copy_(torch.tensor(sd).view(1, 3, 1, 1))
        return self

    def freeze(self) -> "Source":
        """Set evaluation mode for good: no parameter asks for a gradient, no statistic moves."""
        self.requires_grad_(False)
        return self.eval()

    def activations(self, images: Tensor) -> list[Tensor]:
        """Return the activations `(B, C_i, H_i, W_i)` at each selected critical point for images `(B, 3, H, W)`."""
        x = (images - self.mean) / self.sd
        found = []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.critical_points:
                found.append(x)
            if len(found) == len(self.critical_points):
                break
        return found

    forward = activations

    @torch.no_grad()
    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Measure the critical points for images of `size` (H, W) by one pass over noise.

        Raises `InputError` when the images are too small for the deepest point.
        """
        noise = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(0)).to(self.mean.device)
        was_training = self.training
        try:
            found = self.eval().activations(noise)
        except (RuntimeError, ValueError) as error:
            raise InputError(_too_small(size, self.critical_points[-1])) from error
        finally:
            self.train(was_training)
        if any(0 in activation.shape for activation in found):
            raise InputError(_too_small(size, self.critical_points[-1]))
        return [
            CriticalPoint(name, *activation.shape[1:], signed=bool(activation.min() < 0))
            for name, activation in zip(self.critical_points, found, strict=True)
        ]


def _too_small(size: tuple[int, int], name: str) -> str:
    return (
        f"dataset.image_size {size[0]} x {size[1]} is too small for the critical point '{name}'; "
        "use larger images or leave out the deepest points in source.critical_points"
    )
