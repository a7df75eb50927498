"""A convolutional autoencoder with l2 or SSIM loss (Bergmann et al. 2019), whose residual is the map."""

import numpy as np
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from kdad.compute import Compute
from kdad.datasets.activation_cache import ActivationCache
from kdad.parameters.cloner import TrainingParameters
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train
from kdad.training.seeding import derive_seed, torch_seed

_SLOPE = 0.2


class ConvolutionalAutoencoder(nn.Sequential):
    """Strided convolutions down by 2^`depth`, a bottleneck of `latent` channels, and the way back, `(B, 3, H, W)`.

    2^`depth` must divide both sides.
    """

    def __init__(self, depth: int, width: int, latent: int) -> None:
        widths = [width * 2**level for level in range(depth)]
        down, up = [], []
        for before, after in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        for before, after in zip([*widths[::-1]], [*widths[-2::-1], 3], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        middle = [nn.Conv2d(widths[-1], latent, 3, padding=1), nn.Conv2d(latent, widths[-1], 3, padding=1)]
        super().__init__(*down, *middle, nn.LeakyReLU(_SLOPE), *up[:-1], nn.Sigmoid())


def residual(found: Tensor, images: Tensor, loss: str) -> Tensor:
    """Return the residual at each pixel `(B, H, W)`: squared difference for ``l2``, 1 - SSIM for ``ssim``."""
    if loss == "l2":
        return (found.float() - images).square().mean(1)
    _, similarity = structural_similarity_index_measure(
        found.float(), images, data_range=1.0, reduction="none", return_full_image=True
    )
    return 1 - similarity.mean(1)


def train_autoencoder(
    cache: ActivationCache,
    rows: dict[str, np.ndarray],
    loss: str,
    network: ConvolutionalAutoencoder,
    training: TrainingParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> ConvolutionalAutoencoder:
    """Train on the rows ``train`` to the last epoch, measuring ``validation``; return it ready for use."""
    compute.place(network)

    def batch_loss(batch: np.ndarray) -> dict[str, Tensor]:
        images = compute.move(cache.images(batch))
        with compute.autocast():
            found = network(images)
        return {"total": residual(found, images, loss).flatten(1).mean(1)}

    task = TrainingTask(f"{loss} autoencoder", network, batch_loss, rows["train"], rows["validation"])
    train(task, training, derive_seed(seed, "autoencoder", loss), checkpoint)
    return network.eval()


def new_autoencoder(depth: int, width: int, latent: int, seed: int) -> ConvolutionalAutoencoder:
    """Return an untrained network, initialised from the seed."""
    with torch_seed(seed, "autoencoder"):
        return ConvolutionalAutoencoder(depth, width, latent)
