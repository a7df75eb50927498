"""What thresholds promise and what happens: 200 resamples of few normal images of a large, real population.

``python benchmarks/bench_promised_rates.py`` prints a table of Markdown. A population is a few thousand normal images:
crops of a photograph drawn independently of one another, or all digits. A resample draws some of them, divides them as
a run does, fits a detector, sets the threshold at 0.95, and is judged by the share of all other images that exceed it.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from skimage import data
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from kdad.detectors.cross_fitting import fold_splits
from kdad.images.image_set import Sample
from kdad.images.splits import Split, split_samples
from kdad.networks.weights import load_source
from kdad.scoring.decisions import FOLD_COLUMNS, decide
from kdad.scoring.threshold import Threshold

COUNTS = (10, 20, 40, 100)
CHANNELS = 64  # of the Gaussian, drawn once as PaDiM draws them (Defard et al. 2021): 500 take an hour
PARTS = 5  # of cross-fitting, as `measuring.cross_fit: auto` makes them
FRACTION, QUANTILE = 0.1, 0.95

#: From features of training images `(n, D)` to a function that scores others.
Fit = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]


def nearest(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Score by the distance to the nearest training image, which depends on how many there are."""
    squares = (train**2).sum(1)
    return lambda images: np.sqrt(
        np.maximum((images**2).sum(1, keepdims=True) - 2 * images @ train.T + squares, 0)
    ).min(1)


def gaussian(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Score by the distance of Mahalanobis over some channels, of a covariance shrunk as Ledoit and Wolf do."""
    chosen = np.random.default_rng(0).permutation(train.shape[1])[:CHANNELS]
    found = LedoitWolf().fit(train[:, chosen])
    return lambda images: found.mahalanobis(images[:, chosen])


FITS: dict[str, Fit] = {"nearest image": nearest, "Gaussian": gaussian}


def crops(name: str, count: int, side: int = 64) -> Tensor:
    """Return crops `(N, 3, H, W)` of a photograph, each at a place drawn independently of the others."""
    photograph = np.asarray(getattr(data, name)(), dtype=np.float32) / 255
    generator = np.random.default_rng(0)
    places = generator.integers(0, np.array(photograph.shape) - side + 1, (count, 2))
    found = np.stack([photograph[top : top + side, left : left + side] for top, left in places])
    return torch.from_numpy(found)[:, None].expand(-1, 3, -1, -1)


def digits() -> Tensor:
    """Return all handwritten digits of scikit-learn, `(N, 3, 32, 32)`."""
    images = torch.from_numpy(load_digits().images.astype(np.float32) / 16)[:, None]
    return F.interpolate(images, 32, mode="bilinear").expand(-1, 3, -1, -1)


@torch.no_grad()
def mean_activations(images: Tensor) -> np.ndarray:
    """Return the means of a frozen network's activations `(N, D)`, each channel of unit variance."""
    source = load_source("efficientnet_lite0", "pretrained")
    found = [torch.cat([a.mean((2, 3)) for a in source(batch.contiguous())], 1) for batch in images.split(64)]
    features = torch.cat(found).numpy().astype(np.float64)
    return (features - features.mean(0)) / features.std(0).clip(1e-9)


@dataclass(frozen=True)
class Outcome:
    """A threshold, and the share of the population's other images that exceed it."""

    threshold: Threshold
    rate: float

    @property
    def is_inside(self) -> bool:
        """Whether the share lies in the interval that the threshold states."""
        return self.threshold.false_positive_rate_low <= self.rate <= self.threshold.false_positive_rate_high


def resample(features: np.ndarray, count: int, fit: Fit, parts: int, seed: int) -> Outcome:
    """Draw `count` normal images, set the threshold on those held out and on `parts` - 1 folds, and try it."""
    generator = np.random.default_rng([count, seed])
    drawn = generator.permutation(len(features))
    own, others = features[drawn[:count]], features[drawn[count:]]
    samples = [Sample(f"{number:04d}", 0, "good", "train", False) for number in range(count)]
    table = pd.DataFrame({"id": [sample.id for sample in samples], "label": 0, "kind": "good"})
    split = Split(table.assign(split=split_samples(samples, FRACTION, seed)))
    score = fit(own[split.rows("train")])
    folds = []
    for number, fold in enumerate(fold_splits(split, parts, seed) if parts else [], start=1):
        rows = fold.rows("validation")
        scores = fit(own[fold.rows("train")])(own[rows])
        folds.append(pd.DataFrame({"id": table["id"].iloc[rows], "fold": number, "score": scores}))
    fold_scores = pd.concat(folds) if folds else pd.DataFrame(columns=FOLD_COLUMNS)
    held_out = split.rows("validation")
    _, threshold = decide(split, held_out, score(own[held_out]), QUANTILE, fold_scores)
    return Outcome(threshold, float((score(others) > threshold.value).mean()))


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--resamples", type=int, default=200)
    arguments.add_argument("--population", type=int, default=3000, help="crops of each photograph")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    images = {name: crops(name, given.population) for name in ("brick", "grass", "gravel")} | {"digits": digits()}
    features = {name: mean_activations(found) for name, found in images.items()}
    print("| images | detector | normal | parts | scores | promised | observed, mean | 5 to 95 % | in the interval |")
    print(9 * "|---" + "|")
    for name, found in features.items():
        for detector, fit in FITS.items():
            for count in COUNTS:
                for parts in (0, PARTS):
                    made = [resample(found, count, fit, parts, seed) for seed in range(given.resamples)]
                    rates = np.array([outcome.rate for outcome in made])
                    first = made[0].threshold
                    low, high = np.quantile(rates, [0.05, 0.95])
                    inside = np.mean([outcome.is_inside for outcome in made])
                    print(
                        f"| {name} | {detector} | {count} | {parts or '-'} | {first.normal_images} "
                        f"| {first.expected_false_positive_rate:.1%} | {rates.mean():.1%} | {low:.1%} to {high:.1%} "
                        f"| {inside:.1%} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
