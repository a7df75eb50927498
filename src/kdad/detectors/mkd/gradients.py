"""Localisation by the gradient of L_total with respect to the image (Salehi et al. 2021, section 3.3), with Captum."""

import warnings

import torch
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import DiscrepancyParameters, GradientMapParameters, LocalisationMethod
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.networks.source import Source
from kdad.scoring.per_pixel import measured_rows
from kdad.seeding import torch_seed

#: The methods that differentiate, in the order of their names in the documents.
GRADIENT_METHODS = ("gradients", "smooth_grad", "guided_backprop", "integrated_gradients")


class TotalDiscrepancy(nn.Module):
    """Images `(B, 3, H, W)` to L_total `(B,)`: the one module that attribution methods differentiate.

    The source is no submodule, so hooks set on submodules reach the cloner's ReLUs only.
    """

    def __init__(
        self,
        source: Source,
        cloner: nn.Module,
        scales: list[float],
        positions: list[int],
        loss: DiscrepancyParameters,
        compute: Compute,
    ) -> None:
        super().__init__()
        self.cloner = cloner
        object.__setattr__(self, "source", source)
        self.scales, self.positions, self.loss, self.compute = scales, positions, loss, compute

    def forward(self, images: Tensor) -> Tensor:
        """Return L_total over the chosen critical points."""
        images = self.compute.move(images)
        with self.compute.autocast():
            source, cloner = self.source(images), self.cloner(images)
        pairs = [(source[i].float() / self.scales[i], cloner[i]) for i in self.positions]
        return discrepancy_terms([s for s, _ in pairs], [c for _, c in pairs], self.loss)["total"]


def gradient_maps(
    total: TotalDiscrepancy,
    images: Tensor,
    method: LocalisationMethod,
    parameters: GradientMapParameters,
    seed: int,
    baseline: Tensor | None = None,
) -> Tensor:
    """Return maps `(B, H, W)`: the sum over colour channels of the gradient's absolute value.

    ``smooth_grad`` averages the signed gradient over noisy copies first; ``guided_backprop`` passes only positive
    gradients through ReLUs; ``integrated_gradients`` (Sundararajan et al. 2017, eq. 1) averages it on the way from
    `baseline` `(3, H, W)` and multiplies it by the way. No hook is left behind, also when the forward pass raises.
    """
    try:
        from captum.attr import GuidedBackprop, Saliency  # here, since few runs need it
    except ImportError as error:
        raise InputError(f"the map '{method}' takes the package {error.name}; pip install \"kdad[run]\"") from error

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU|Input Tensor .* require gradients")
        if method == "gradients":
            found = Saliency(total).attribute(images, abs=False)
        elif method == "guided_backprop":
            found = GuidedBackprop(total).attribute(images)
        elif method == "integrated_gradients":
            found = _integrated_gradients(total, images, parameters, baseline)
        else:
            found = _smooth_grad(total, images, parameters, seed)
    return found.detach().abs().sum(1).float()


def _integrated_gradients(
    total: TotalDiscrepancy, images: Tensor, parameters: GradientMapParameters, baseline: Tensor
) -> Tensor:
    """Return signed attributions that add up, for each image, to L_total's difference from the baseline."""
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(total).attribute(
        images,
        baselines=baseline.to(images.device)[None],
        n_steps=parameters.integrated_gradients_steps,
        internal_batch_size=max(len(images), parameters.batch_size),
    )
    return found.float()


def _smooth_grad(total: TotalDiscrepancy, images: Tensor, parameters: GradientMapParameters, seed: int) -> Tensor:
    """Return the mean gradient over noisy copies; each copy's noise is the same for all images.

    So an image's map does not depend on the images beside it, as it would with Captum's `NoiseTunnel`.
    """
    from captum.attr import Saliency

    mean = torch.zeros_like(images)
    with torch_seed(seed, "smooth_grad"):
        noises = torch.randn(parameters.smooth_grad_samples, 1, *images.shape[1:]) * parameters.smooth_grad_sd
    for noise in noises:
        mean += Saliency(total).attribute(images + noise.to(images.device), abs=False) / len(noises)
    return mean


def measure_mean_image(feature_set: FeatureSet, batch_size: int) -> Tensor:
    """Return the mean `(3, H, W)` of at most 512 training images, float32: what integrated gradients begin at."""
    rows = measured_rows(feature_set.split)
    sums = [feature_set.batch(rows[i : i + batch_size]).double().sum(0) for i in range(0, len(rows), batch_size)]
    return (torch.stack(sums).sum(0) / len(rows)).float()
