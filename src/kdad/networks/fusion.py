"""Networks as they predict in float32 on a CPU: a convolution and what follows it in one call, weights laid out once.

Torch by itself lays weights out anew in each call, and convolves one image in one thread by a slow way of its own.
"""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdad.compute import Compute

#: Of oneDNN, and not public in torch: a build without them computes by the network itself.
_OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight")
#: How oneDNN names an activation, and its bounds.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
#: EfficientNet-Lite's convolution, which pads as TensorFlow does: by what the image's sides take.
_SAME = "Conv2dDynamicSamePadding"
_TOLERANCE = 1e-3  # of the largest value; rounding alone leaves 1e-5


def for_predicting(network: nn.Module, compute: Compute) -> Callable[..., Any]:
    """Return what gives a network's outputs to float32's last digits, faster where no gradient is asked for.

    Its weights must not change after the first call.
    """
    exact = compute.device.type == "cpu" and compute.dtype == torch.float32 and not compute.compile
    known = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)
    return Fused(network) if exact and known else compute.compiled(network)


class Fused:
    """A network with a fused copy, which is made when outputs of inputs without gradients are first asked for."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        #: By depth and the inputs' sizes: those of a detector are few.
        self.copies: dict[tuple[Any, ...], nn.Module] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Fused, (self.network,)  # weights as oneDNN lays them out can be neither copied nor pickled

    def __call__(self, inputs: Tensor | list[Tensor], *depth: int) -> list[Tensor]:
        """Return the network's outputs; in training, for gradients and while it is traced, by the network itself."""
        if torch.is_grad_enabled() or self.network.training or torch.compiler.is_compiling():
            return self.network(inputs, *depth)
        several = isinstance(inputs, list)
        wanted = *depth, *(one.shape[1:] for one in (inputs if several else [inputs]))
        if wanted not in self.copies:
            sample = [one[:1] for one in inputs] if several else inputs[:1]
            self.copies[wanted] = fuse(self.network, sample, *depth)
        return self.copies[wanted](inputs, *depth)


@torch.inference_mode(False)
@torch.no_grad()
def fuse(network: nn.Module, sample: Tensor | list[Tensor], *depth: int) -> nn.Module:
    """Return a copy with fused convolutions, for inputs of the size of a `sample`; itself where outputs differ."""
    fused, calls = deepcopy(network), []
    # In this mode, and no tensor of inference alone, whose changes in place are not counted.
    sample = [one.clone() for one in sample] if isinstance(sample, list) else sample.clone()
    layers = [one for one in fused.modules() if isinstance(one, (nn.Conv2d, nn.BatchNorm2d, *_ACTIVATIONS))]
    hooks = [layer.register_forward_hook(lambda *call: calls.append(_Call(*call))) for layer in layers]
    for layer in layers:
        layer.inplace = False  # or a tensor has two makers
    expected = fused(sample, *depth)
    for hook in hooks:
        hook.remove()
    replaced: dict[nn.Module, nn.Module] = {}
    for call, following in _find_chains(calls):
        replaced |= {layer: nn.Identity() for layer in following}
        replaced[call.layer] = _Convolution(call, following)
    for parent in list(fused.modules()):
        parent._modules.update({name: replaced[one] for name, one in parent._modules.items() if one in replaced})
    pairs = zip(expected, fused(sample, *depth), strict=True)
    return fused if all((one - two).abs().max() <= _TOLERANCE * one.abs().max() for one, two in pairs) else network


class _Call:
    """What a layer was given and made; `source` and `end` name the tensors, until they are changed in place."""

    def __init__(self, layer: nn.Module, inputs: tuple[Tensor, ...], made: Tensor) -> None:
        self.layer, self.given, self.made = layer, inputs[0], made
        self.source, self.end = ((id(tensor), tensor._version) for tensor in (self.given, made))


def _find_chains(calls: list[_Call]) -> list[tuple[_Call, list[nn.Module]]]:
    """Return the call of each convolution that is called once, and the BatchNorm and activation that follow it.

    That nothing else takes what lies between, calls do not tell; the copy's outputs will.
    """
    times = Counter(call.layer for call in calls)
    chains: dict[nn.Module, tuple[_Call, list[nn.Module]]] = {}
    ends: dict[tuple[int, int], nn.Module] = {}  # the convolution behind a tensor
    activated: dict[nn.Module, list[nn.Module | None]] = {}
    for call in calls:
        layer, convolution = call.layer, ends.get(call.source)
        if type(layer) in _ACTIVATIONS:
            activated.setdefault(layer, []).append(convolution)
        elif times[layer] > 1:
            continue
        elif type(layer).__name__ == _SAME or (type(layer) is nn.Conv2d and layer.padding_mode == "zeros"):
            chains[layer], ends[call.end] = (call, []), layer
        elif type(layer) is nn.BatchNorm2d and convolution is not None and not chains[convolution][1]:
            chains[convolution][1].append(layer)
            ends[call.end] = convolution
    for activation, convolutions in activated.items():
        if None not in convolutions:  # some blocks have one for several convolutions
            for convolution in convolutions:
                chains[convolution][1].append(activation)
    return list(chains.values())


class _Convolution(nn.Module):
    """A convolution with the BatchNorm and the activation that follow it, for images of one size."""

    def __init__(self, call: _Call, following: list[nn.Module]) -> None:
        super().__init__()
        layer: Any = call.layer
        for norm in [one for one in following if isinstance(one, nn.BatchNorm2d)]:
            layer = fuse_conv_bn_eval(layer, norm)
        named = [_ACTIVATIONS[type(one)] for one in following if type(one) in _ACTIVATIONS]
        self.activation, self.bounds = named[0] if named else ("none", [])
        weight, self.bias, self.padding = layer.weight.detach(), layer.bias, layer.padding
        self.form = list(layer.stride), list(layer.dilation), layer.groups
        if type(layer).__name__ == _SAME:
            sides = zip(call.given.shape[2:], layer.stride, weight.shape[2:], strict=True)
            rows, columns = (max((-(-side // step) - 1) * step + kernel - side, 0) for side, step, kernel in sides)
            # An odd number has its larger half behind: both sides get that, and the kernel a first row of zeros.
            weight = F.pad(weight, (columns % 2, 0, rows % 2, 0))
            self.padding = -(-rows // 2), -(-columns // 2)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, *self.form, list(call.given.shape)
        )
        is_product = self.bias is not None and weight.shape[2:] == (1, 1) and self.form == ([1, 1], [1, 1], 1)
        self.matrix = weight[:, :, 0, 0].T.contiguous() if is_product and not any(self.padding) else None

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers give for `(B, C, H, W)`."""
        if self.matrix is None or x.shape[0] > 1:
            given = x, self.weight, self.bias, self.padding, *self.form, self.activation, self.bounds, ""
            return torch.ops.mkldnn._convolution_pointwise(*given)
        pixels = x.permute(0, 2, 3, 1)  # of one image a product costs less than a call of oneDNN
        made = torch.addmm(self.bias, pixels.reshape(-1, len(self.matrix)), self.matrix)
        if self.activation != "none":
            made.clamp_(*self.bounds or [0.0])
        return made.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)
