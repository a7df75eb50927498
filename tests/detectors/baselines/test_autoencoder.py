import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from kdad.compute import Compute
from kdad.detectors.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.detectors.baselines.parameters import AutoencoderOptions, VariationalOptions
from kdad.training.loop import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture
def trained(feature_set, tmp_path):
    """Train an autoencoder on six images, and return it with them."""

    def run(loss, epochs, seed=0, folder="first", noise_sd=0.01):
        network = new_autoencoder(loss, 1, 8, 8, seed)
        given = {"epochs": epochs, "batch_size": 2, "learning_rate": 0.01}
        variational = loss == "variational"
        options = VariationalOptions(**given, noise_sd=noise_sd) if variational else AutoencoderOptions(**given)
        checkpoint = CheckpointFile(tmp_path / folder / "checkpoint", "key")
        history = train_autoencoder(network, feature_set, loss, options, _FLOAT32, seed, checkpoint)
        return network, history, feature_set.batch(feature_set.split.rows("train"))

    return run


def test_l2_residual_by_hand():
    found, images = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    images[0, :, 0, 1] = torch.tensor([0.5, 0.5, 0.2])
    torch.testing.assert_close(residual(found, images, "l2")[0], torch.tensor([[0.25, 0.03], [0.25, 0.25]]))


def test_ssim_residual_is_scikit_images():
    generator = np.random.default_rng(0)
    one, other = generator.random((2, 40, 48))
    _, expected = structural_similarity(
        one, other, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    images = [torch.from_numpy(x).float().expand(1, 3, -1, -1) for x in (one, other)]
    found = residual(*images, "ssim")[0].numpy()
    np.testing.assert_allclose(found[6:-6, 6:-6], 1 - expected[6:-6, 6:-6], atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("loss", ["l2", "variational"])
def test_output_has_the_images_size_and_range(depth, loss):
    found = new_autoencoder(loss, depth, 4, 3, 0)(torch.rand(2, 3, 8, 12)).detach()
    assert found.shape == (2, 3, 8, 12)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.parametrize("loss", ["l2", "variational"])
def test_training_lowers_the_residual_of_what_it_sees(trained, loss):
    def error(epochs: int) -> float:
        network, _, images = trained(loss, epochs, folder=str(epochs))
        with torch.no_grad():
            return float(residual(network(images), images, "l2").mean())

    assert error(40) < 0.7 * error(1)


def test_the_history_holds_the_residual_of_held_out_images(feature_set, trained):
    network, history, _ = trained("l2", 2)
    validation = feature_set.batch(feature_set.split.rows("validation"))
    with torch.no_grad():
        expected = float((network(validation) - validation).square().mean())
    last = history[(history["epoch"] == 1) & (history["split"] == "validation")]
    assert last["value"].item() == pytest.approx(expected, rel=1e-5)


def test_one_seed_gives_one_autoencoder_and_another_seed_another(trained):
    weights = [
        trained("variational", 2, seed, folder)[0].state_dict() for seed, folder in ((3, "a"), (3, "b"), (4, "c"))
    ]
    first, again, other = ([*state.values()] for state in weights)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_divergence_is_pytorchs_and_use_draws_nothing():
    network = new_autoencoder("variational", 2, 4, 3, 0)
    images = torch.rand(2, 3, 8, 12)
    mean, log_variance = network.encoder(images).chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    _, divergence = network.reconstruct(images)
    torch.testing.assert_close(divergence, expected)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network.decoder(mean))


def test_a_variational_bottleneck_that_costs_much_says_nothing(trained):
    network, _, images = trained("variational", 40, noise_sd=10.0)
    with torch.no_grad():
        _, divergence = network.reconstruct(images)
    assert float(divergence.max()) < 1.0
