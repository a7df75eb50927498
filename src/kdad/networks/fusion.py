"""Networks as they predict in float32 on a CPU: each convolution with what follows it, its weights laid out once.

Torch by itself lays weights out anew in each call, and convolves one image in one thread by a slow way of its own.
"""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdad.compute import Compute

#: How oneDNN names an activation, and its bounds.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
#: EfficientNet-Lite's convolution, which pads as TensorFlow does: outputs are as many as steps fit, rounded up.
_SAME = "Conv2dDynamicSamePadding"
_TOLERANCE = 1e-3  # of the largest value; rounding alone leaves 1e-5


def for_predicting(network: nn.Module, compute: Compute) -> Callable[..., Any]:
    """Return what gives a network's outputs to float32's last digits, faster where no gradient is asked for.

    Its weights must not change after the first call.
    """
    exact = compute.device.type == "cpu" and compute.dtype == torch.float32 and not compute.compile
    return Fused(network) if exact and torch.backends.mkldnn.is_available() else compute.compiled(network)


class Fused:
    """A network with a fused twin, which is made when outputs without gradients are first asked for."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.twin: tuple[Any, nn.Module] = None, network  # and the shapes that it is for

    def __call__(self, inputs: Tensor | list[Tensor], *depth: int) -> list[Tensor]:
        """Return the network's outputs; in training, with gradients and while it is traced by the network itself."""
        if torch.is_grad_enabled() or self.network.training or torch.compiler.is_compiling():
            return self.network(inputs, *depth)
        several = isinstance(inputs, list)
        shapes = *depth, *(one.shape[1:] for one in (inputs if several else [inputs]))
        made_for, twin = self.twin
        if made_for != shapes:
            twin = fuse(self.network, [one[:1] for one in inputs] if several else inputs[:1], *depth)
            self.twin = shapes, twin
        return twin(inputs, *depth)


@torch.inference_mode(False)
@torch.no_grad()
def fuse(network: nn.Module, sample: Tensor | list[Tensor], *depth: int) -> nn.Module:
    """Return a copy with fused convolutions, for inputs of the `sample`'s size; itself where the copy's outputs differ."""
    twin, calls = deepcopy(network), []
    for module in twin.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # by which a tensor would have two makers
    leaves = [module for module in twin.modules() if not module._modules]
    hooks = [leaf.register_forward_hook(lambda *call: calls.append(_Call(*call))) for leaf in leaves]
    expected = twin(sample, *depth)
    for hook in hooks:
        hook.remove()
    replaced: dict[nn.Module, nn.Module] = {}
    for call, following in _chains(calls):
        replaced[call.module] = _Convolution(call, following)
        replaced |= {module: nn.Identity() for module in following}
    for parent in list(twin.modules()):
        parent._modules.update({name: replaced[one] for name, one in parent._modules.items() if one in replaced})
    pairs = zip(expected, twin(sample, *depth), strict=True)
    return twin if all((one - two).abs().max() <= _TOLERANCE * one.abs().max() for one, two in pairs) else network


class _Call:
    """A layer's call: what it was given, and made."""

    def __init__(self, module: nn.Module, inputs: tuple[Tensor, ...], made: Tensor) -> None:
        self.module, self.given, self.made, self.version = module, inputs[0], made, made._version


def _chains(calls: list[_Call]) -> list[tuple[_Call, list[nn.Module]]]:
    """Return the convolutions that are called once, each with the BatchNorm and the activation that follow it.

    That nothing else takes what lies between, no call tells: the copy's outputs will.
    """
    times = Counter(call.module for call in calls)
    chains: dict[nn.Module, tuple[_Call, list[nn.Module]]] = {}
    ends: dict[int, tuple[_Call, nn.Module]] = {}  # by the tensor, the last call of a chain
    activations: dict[nn.Module, list[nn.Module | None]] = {}
    for call in calls:
        last, first = ends.get(id(call.given), (None, None))
        if last is not None and last.made._version != last.version:  # was added to in place
            first = None
        kind, once = type(call.module), times[call.module] == 1
        if once and (kind is nn.Conv2d and call.module.padding_mode == "zeros" or kind.__name__ == _SAME):
            chains[call.module] = call, []
            ends[id(call.made)] = call, call.module
        elif once and kind is nn.BatchNorm2d and first is not None and last.module is first:
            chains[first][1].append(call.module)
            ends[id(call.made)] = call, first
        elif kind in _ACTIVATIONS:
            activations.setdefault(call.module, []).append(first)
    for activation, before in activations.items():
        if None not in before:  # some networks have one for many convolutions
            for first in before:
                chains[first][1].append(activation)
    return list(chains.values())


class _Convolution(nn.Module):
    """A convolution, and BatchNorm and activation that follow it, in one call."""

    def __init__(self, call: _Call, following: list[nn.Module]) -> None:
        super().__init__()
        convolution, sides = call.module, call.given.shape[2:]
        for module in following:
            if isinstance(module, nn.BatchNorm2d):
                convolution = fuse_conv_bn_eval(convolution, module)
        self.activation, self.bounds = next((_ACTIVATIONS[type(m)] for m in following if type(m) in _ACTIVATIONS), ("none", []))
        self.bias, weight = convolution.bias, convolution.weight.detach()
        self.steps = list(convolution.stride), list(convolution.dilation), convolution.groups
        self.padding = convolution.padding
        if type(convolution).__name__ == _SAME:
            wanted = [
                max((-(-side // step) - 1) * step + (kernel - 1) * spread + 1 - side, 0)
                for side, step, spread, kernel in zip(sides, *self.steps[:2], weight.shape[2:], strict=True)
            ]
            # One side gets a pixel more where the number is odd: both do, and the kernel a first row of zeros.
            weight = F.pad(weight, (wanted[1] % 2, 0, wanted[0] % 2, 0))
            self.padding = [-(-number // 2) for number in wanted]
        self.padding = list(self.padding)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, *self.steps, list(call.given.shape)
        )
        plain = weight.shape[2:] == (1, 1) and self.steps == ([1, 1], [1, 1], 1) and not any(self.padding)
        self.matrix = weight[:, :, 0, 0].T.contiguous() if plain and self.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is not None and len(x) == 1:  # where what a call of oneDNN costs by itself is seen
            rows = x.permute(0, 2, 3, 1)
            made = torch.addmm(self.bias, rows.reshape(-1, len(self.matrix)), self.matrix)
            if self.activation != "none":
                made.clamp_(*self.bounds or [0.0])
            return made.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, self.padding, *self.steps, self.activation, self.bounds, ""
        )
