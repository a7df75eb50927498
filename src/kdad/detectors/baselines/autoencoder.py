"""Convolutional autoencoders, whose residual is the map: with l2 or SSIM loss (Bergmann et al. 2019), variational."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from kdad.compute import Compute
from kdad.detectors.baselines.parameters import AutoencoderOptions
from kdad.features.extraction import FeatureSet
from kdad.seeding import derive_seed, torch_seed
from kdad.training.loop import CheckpointFile, TrainingTask, train

_SLOPE = 0.2


class ConvolutionalAutoencoder(nn.Module):
    """Strided convolutions down by 2^`depth`, a bottleneck of `latent` channels, and the way back, `(B, 3, H, W)`.

    2^`depth` must divide both sides.
    """

    numbers_of_latent = 1  # that the encoder gives for each number of the bottleneck

    def __init__(self, depth: int, width: int, latent: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        down, up = [], []
        for before, after in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        for before, after in zip([*widths[::-1]], [*widths[-2::-1], 3], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        narrow = nn.Conv2d(widths[-1], self.numbers_of_latent * latent, 3, padding=1)
        widen = nn.Conv2d(latent, widths[-1], 3, padding=1)
        self.encoder = nn.Sequential(*down, narrow)
        self.decoder = nn.Sequential(widen, nn.LeakyReLU(_SLOPE), *up[:-1], nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstruction."""
        return self.reconstruct(images)[0]

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction, and for each image what the bottleneck costs `(B,)`: nothing here."""
        return self.decoder(self.encoder(images)), images.new_zeros(images.shape[0])


class VariationalAutoencoder(ConvolutionalAutoencoder):
    """The same with a Gaussian bottleneck (Kingma and Welling 2014): trained with a sample of it, used at its mean."""

    numbers_of_latent = 2  # mean and logarithm of the variance

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction, and for each image KL(N(mean, variance) || N(0, 1)) `(B,)`, in nats."""
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return self.decoder(drawn), divergence


def residual(found: Tensor, images: Tensor, loss: str) -> Tensor:
    """Return the residual at each pixel `(B, H, W)`: 1 - SSIM for ``ssim``, else the squared difference."""
    if loss != "ssim":
        return (found.float() - images).square().mean(1)
    _, similarity = structural_similarity_index_measure(
        found.float(), images, data_range=1.0, reduction="none", return_full_image=True
    )
    return 1 - similarity.mean(1)


def train_autoencoder(
    network: ConvolutionalAutoencoder,
    feature_set: FeatureSet,
    loss: str,
    options: AutoencoderOptions,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> pd.DataFrame:
    """Train a network in place on the training images to the last epoch; return the loss history.

    With pixels of sd `noise_sd` around their reconstruction, the mean squared difference plus 2 sd^2 KL / (3 H W) is,
    up to scale, the negative evidence lower bound of a variational autoencoder.
    """
    noise_sd = getattr(options, "noise_sd", 0.0)

    def batch_loss(batch: np.ndarray) -> dict[str, Tensor]:
        images = compute.move(feature_set.batch(batch))
        with compute.autocast():
            found, divergence = network.reconstruct(images)
        bottleneck = 2 * noise_sd**2 * divergence / images[0].numel()
        return {"total": residual(found, images, loss).flatten(1).mean(1) + bottleneck}

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    task = TrainingTask(f"{loss} autoencoder", network, batch_loss, *parts, names=feature_set.split.name)
    return train(task, options.training, derive_seed(seed, "autoencoder", loss), checkpoint)


def new_autoencoder(loss: str, depth: int, width: int, latent: int, seed: int) -> ConvolutionalAutoencoder:
    """Return an untrained network for ``l2``, ``ssim`` or ``variational``, initialised from the seed."""
    form = VariationalAutoencoder if loss == "variational" else ConvolutionalAutoencoder
    with torch_seed(seed, "autoencoder"):
        return form(depth, width, latent)
