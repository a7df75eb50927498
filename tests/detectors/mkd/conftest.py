"""Settings of MKD detectors that are small enough for tests."""

from collections.abc import Callable

import pytest

from kdad.detectors.mkd.parameters import MkdSettings


@pytest.fixture
def settings() -> Callable[..., MkdSettings]:
    """Make settings: a small source with random weights, two epochs; `cloner` and `scoring` are laid over them."""

    def make(source=None, features=None, cloner=None, **scoring) -> MkdSettings:
        return MkdSettings(
            source={"name": "timm:test_resnet", "weights": "random"} | (source or {}),
            features=features or {},
            cloner={
                "architecture": {"size": "small", "hidden_width": 8},
                "loss": {},
                "training": {"epochs": 2, "batch_size": 4},
            }
            | (cloner or {}),
            scoring={"localisation": ["discrepancy"], "smoothing": {"discrepancy": {}}} | scoring,
        )

    return make
