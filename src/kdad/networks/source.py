"""A source: a frozen network that gives its activations at named critical points; which ones there are."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.parameters.strict import PointChoice, nearest_name, split_list


@dataclass(frozen=True)
class CriticalPoint:
    """One critical point at a given image size: name, shape `(C, H, W)`, and whether activations can be negative."""

    name: str
    channels: int
    height: int
    width: int
    signed: bool

    @property
    def values(self) -> int:
        """How many numbers it has for an image."""
        return self.channels * self.height * self.width


def choose_points(choice: PointChoice | None, points: tuple[str, ...], field: str) -> list[int]:
    """Return the positions of the chosen critical points among `points`.

    A choice is ``all`` (or None), ``first N``, ``last N``, or names as a list or in words. Raises `InputError`, naming
    `field`, for a name that is not there, an empty list or a number that is too large.
    """
    if choice is None or choice == "all":
        return list(range(len(points)))
    if isinstance(choice, str):
        match = re.fullmatch(r"(first|last) ([1-9]\d*)", choice)
        names = split_list(choice)
        if match is None and names and all(name in points for name in names):
            return choose_points(names, points, field)
        if match is None:
            known = ", ".join(points)
            raise InputError(f"{field} is '{choice}'; give 'all', 'first N', 'last N' or a list of names of: {known}")
        count = int(match[2])
        if count > len(points):
            raise InputError(f"{field} is '{choice}', but there are {len(points)} critical points: {', '.join(points)}")
        return list(range(count)) if match[1] == "first" else list(range(len(points) - count, len(points)))
    if not choice:
        raise InputError(f"{field} is empty; choose from: {', '.join(points)}")
    for name in choice:
        if name not in points:
            raise InputError(f"{field}: there is no critical point '{name}'{nearest_name(name, list(points))}")
    return [position for position, name in enumerate(points) if name in choice]


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


class Source(nn.Module):
    """A network cut after its critical points (Salehi et al. 2021, section 3).

    `stages` maps a critical point's name to the part of the network that ends there, in order; an image passes
    through the parts up to the last point selected. Images come in [0, 1] and are normalised inside.
    """

    def __init__(
        self,
        stages: dict[str, nn.Module],
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

    def activations(self, images: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the activations `(B, C_i, H_i, W_i)` at each selected critical point for images `(B, 3, H, W)`.

        `depth` says at how many of them, from the first on; None at all.
        """
        wanted = self.critical_points[:depth]
        x = (images - self.mean) / self.sd
        found = []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in wanted:
                found.append(x)
            if len(found) == len(wanted):
                break
        return found

    forward = activations

    def require_size(self, size: tuple[int, int], field: str) -> None:
        """Raise `InputError`, naming `field`, for images of a `size` (H, W) that the network does not take."""

    def fit_to(self, size: tuple[int, int]) -> "Source":
        """Compute what depends on the images' size (H, W) once, for images of that size alone."""
        return self

    @torch.no_grad()
    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Measure the critical points for images of `size` (H, W) by one pass over noise.

        Raises `InputError` when the images are too small for the deepest point, or of a size that it does not take.
        """
        self.require_size(size, "dataset.image_size")
        noise = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(0)).to(self.mean.device)
        was_training = self.training
        try:  # what is too small is refused by a layer, or has no lowest value
            return [
                CriticalPoint(name, *activation.shape[1:], signed=bool(activation.min() < 0))
                for name, activation in zip(self.critical_points, self.eval().activations(noise), strict=True)
            ]
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"dataset.image_size {size[0]} x {size[1]} is too small for the critical point "
                f"'{self.critical_points[-1]}'; use larger images or leave out the deepest points in "
                "source.critical_points"
            ) from error
        finally:
            self.train(was_training)


_VGG16_POOLS = {"pool1": 4, "pool2": 9, "pool3": 16, "pool4": 23, "pool5": 30}
#: The last block before each step of 2, by which critical points are named, and the last of all.
_LITE_BLOCKS = {
    "efficientnet_lite0": (2, 4, 10, 15),
    "efficientnet_lite1": (3, 6, 14, 20),
    "efficientnet_lite2": (3, 6, 14, 20),
}
ARCHITECTURES = (*_LITE_BLOCKS, "vgg16", "resnet18", "timm:<name>")


def build_source(name: str) -> Source:
    """Build an untrained source by its name, with the critical points that the project uses by default.

    Raises `InputError` for an unknown name.
    """
    builders = {"vgg16": _vgg16, "resnet18": _resnet18}
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"))
    if name in _LITE_BLOCKS:
        return _efficientnet_lite(name)
    if name not in builders:
        raise InputError(f"source.name: unknown source '{name}'{nearest_name(name, list(ARCHITECTURES))}")
    return builders[name]()


def _vgg16() -> Source:
    """Cut VGG-16 after each max-pool; CP_1..CP_4 of the paper are pool2..pool5."""
    from torchvision.models import vgg16

    layers = vgg16(weights=None).features
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # guided backprop hooks need the layer's own input
    ends = list(_VGG16_POOLS.values())
    starts = [0, *(end + 1 for end in ends)]
    stages = {pool: layers[start : end + 1] for (pool, end), start in zip(_VGG16_POOLS.items(), starts, strict=False)}
    return Source(stages).select(["pool2", "pool3", "pool4", "pool5"])


def _resnet18() -> Source:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    return Source({"layer1": stem, "layer2": network.layer2, "layer3": network.layer3, "layer4": network.layer4})


def _efficientnet_lite(name: str) -> Source:
    """Cut an EfficientNet-Lite at strides 4, 8, 16 and 32; its input is scaled to [-1, 1]."""
    from efficientnet_lite_pytorch import EfficientNet

    # image_size=None gives padding that follows the image: nothing assumes 224 x 224.
    network = EfficientNet.from_name(name.replace("_", "-"), image_size=None)
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    stages: dict[str, nn.Module] = {}
    start = 0
    for block in _LITE_BLOCKS[name]:
        blocks = list(network._blocks)[start : block + 1]
        stages[f"block{block}"] = nn.Sequential(*([stem] if start == 0 else []), *blocks)
        start = block + 1
    return Source(stages, mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5))


class TimmSource(Source):
    """A timm network, which returns all its feature maps in one pass; critical points are ``stage0``, ``stage1`` ..."""

    point_names = "stage"

    def __init__(self, network: nn.Module, mean: tuple[float, ...], sd: tuple[float, ...]) -> None:
        points = [f"{self.point_names}{index}" for index in range(len(network.feature_info))]
        super().__init__({point: nn.Identity() for point in points}, mean, sd)
        self.pyramid = network

    def activations(self, images: Tensor, depth: int | None = None) -> list[Tensor]:
        maps = zip(self.stages, self.pyramid((images - self.mean) / self.sd), strict=True)
        return [activation for name, activation in maps if name in self.critical_points[:depth]]

    forward = activations


class TransformerSource(TimmSource):
    """A vision transformer of timm: what its blocks give for each patch, as maps; critical points are ``block0`` ...

    Class and register tokens are left out. Positions are interpolated to the grid of patches, so that images may have
    any size that is a multiple of a patch's.
    """

    point_names = "block"

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.pyramid.patch_embed.patch_size

    def activations(self, images: Tensor, depth: int | None = None) -> list[Tensor]:
        chosen = [index for index, name in enumerate(self.stages) if name in self.critical_points[:depth]]
        given = (images - self.mean) / self.sd
        return self.pyramid.forward_intermediates(given, indices=chosen, stop_early=True, intermediates_only=True)

    forward = activations

    def require_size(self, size: tuple[int, int], field: str) -> None:
        steps = list(zip(size, self.patch, strict=True))
        if all(side % step == 0 for side, step in steps):
            return
        below = tuple(max(side // step, 1) * step for side, step in steps)
        above = tuple(-(-side // step) * step for side, step in steps)
        named = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys([below, above]))
        raise InputError(
            f"{field} {size[0]} x {size[1]} cannot be cut into the source's patches of {self.patch[0]} x "
            f"{self.patch[1]} pixels; use a multiple of them, such as {named}"
        )

    def fit_to(self, size: tuple[int, int]) -> "TransformerSource":
        self.pyramid.set_input_size(size)
        return self


#: Families of timm that are transformers of one resolution, whose positions can be interpolated.
_TRANSFORMERS = ("vision_transformer", "deit", "eva")


def build_timm(name: str, pretrained: bool = False) -> nn.Module:
    """Build a network of timm as a source runs it: feature maps alone, or all blocks of a transformer.

    Raises `RuntimeError` for a name that timm does not have.
    """
    import timm

    if not timm.models.is_model_in_modules(name, _TRANSFORMERS):
        return timm.create_model(name, pretrained=pretrained, features_only=True)
    network = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    network.prune_intermediate_layers(None, prune_norm=True, prune_head=True)  # no block, but what follows the last
    return network


def _timm(name: str) -> Source:
    import timm

    if ":" in name or "/" in name:  # timm would fetch `hf-hub:someone/something`, for a detector that names it
        raise InputError(
            f"source.name: '{name}' is no network of timm's own; name one of those, and give its file as source.weights"
        )
    try:
        network = build_timm(name)
    except RuntimeError as error:
        close = nearest_name(name, timm.list_models()) if len(name) > 2 else ""
        raise InputError(f"source.name: timm cannot build '{name}' as a source{close[:300]} ({error})") from error
    config = network.default_cfg if hasattr(network, "default_cfg") else timm.get_pretrained_cfg(name).to_dict()
    mean_and_sd = tuple(config["mean"]), tuple(config["std"])
    if not timm.models.is_model_in_modules(name, _TRANSFORMERS):
        if len(getattr(network, "out_indices", network.feature_info)) < len(network.feature_info):
            raise InputError(
                f"source.name: '{name}' is a transformer whose positions timm does not interpolate; take another, such "
                "as timm:vit_small_patch14_dinov2"
            )
        source = TimmSource(network, *mean_and_sd)
        return source.select(list(source.stages)[-4:])
    source = TransformerSource(network, *mean_and_sd)
    points = list(source.stages)
    # The last blocks of four equal parts of the depth: 2, 5, 8 and 11 of 12.
    return source.select([points[len(points) * part // 4 - 1] for part in range(1, 5)])
