"""The networks that can be a source, each cut into named stages; none has weights yet.

The library of a network is imported when it is built: timm and torchvision take seconds.
"""

from collections import OrderedDict

from torch import Tensor, nn

from kdad.errors import InputError
from kdad.networks.source import Source
from kdad.parameters.strict import nearest_name

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
    stages = OrderedDict(
        (pool, layers[start : end + 1]) for (pool, end), start in zip(_VGG16_POOLS.items(), starts, strict=False)
    )
    source = Source(stages)
    return source.select(["pool2", "pool3", "pool4", "pool5"])


def _resnet18() -> Source:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    return Source(OrderedDict(layer1=stem, layer2=network.layer2, layer3=network.layer3, layer4=network.layer4))


def _efficientnet_lite(name: str) -> Source:
    """Cut an EfficientNet-Lite at strides 4, 8, 16 and 32; its input is scaled to [-1, 1]."""
    from efficientnet_lite_pytorch import EfficientNet

    # image_size=None gives padding that follows the image: nothing assumes 224 x 224.
    network = EfficientNet.from_name(name.replace("_", "-"), image_size=None)
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    start = 0
    for block in _LITE_BLOCKS[name]:
        blocks = list(network._blocks)[start : block + 1]
        stages[f"block{block}"] = nn.Sequential(*([stem] if start == 0 else []), *blocks)
        start = block + 1
    return Source(stages, mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5))


class TimmSource(Source):
    """A timm network, which returns all its feature maps in one pass; critical points are ``stage0``, ``stage1`` ..."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], sd: tuple[float, ...]) -> None:
        points = [f"stage{index}" for index in range(len(network.feature_info))]
        super().__init__(OrderedDict((point, nn.Identity()) for point in points), mean, sd)
        self.pyramid = network

    def activations(self, images: Tensor) -> list[Tensor]:
        maps = dict(zip(self.stages, self.pyramid((images - self.mean) / self.sd), strict=True))
        return [maps[name] for name in self.critical_points]

    forward = activations


def _timm(name: str) -> Source:
    import timm

    if ":" in name or "/" in name:  # timm would fetch `hf-hub:someone/something`, for a detector that names it
        raise InputError(
            f"source.name: '{name}' is no network of timm's own; name one of those, and give its file as source.weights"
        )
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except RuntimeError as error:
        close = nearest_name(name, timm.list_models()) if len(name) > 2 else ""
        raise InputError(f"source.name: timm cannot build '{name}' as a source{close[:300]} ({error})") from error
    config = network.default_cfg if hasattr(network, "default_cfg") else timm.get_pretrained_cfg(name).to_dict()
    source = TimmSource(network, tuple(config["mean"]), tuple(config["std"]))
    return source.select(list(source.stages)[-4:])
