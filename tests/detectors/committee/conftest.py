"""Settings of committees that are small enough for tests."""

from collections.abc import Callable

import pytest

from kdad.detectors.committee.parameters import CommitteeSettings

_SOURCE = {"name": "timm:test_resnet", "weights": "random"}
_TRAINING = {"epochs": 2, "batch_size": 4}


@pytest.fixture
def settings() -> Callable[..., CommitteeSettings]:
    """Make settings of a committee with these members; `blocks` take the place of those here."""

    def make(*members: str, **blocks) -> CommitteeSettings:
        given = {
            "source": _SOURCE,
            "features": {},
            "cloner": {"architecture": {"hidden_width": 8}, "loss": {}, "training": _TRAINING},
            "scoring": {"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 1.0}}},
            "stfpm": {"source": _SOURCE, "training": _TRAINING, "smoothing": {"gaussian_sigma": 0.5}},
            "reverse_distillation": {"source": _SOURCE, "training": _TRAINING, "smoothing": {"gaussian_sigma": 0.5}},
            "baselines": {
                "methods": {
                    "position_gaussian": {"detector": "position_gaussian", "options": {"channels": 8}},
                    "memory_bank": {"detector": "memory_bank", "options": {"patches": 200}},
                    "patch_ocsvm": {"detector": "patch_ocsvm", "options": {"patches": 200, "nu": 0.1}},
                    "nearest_pixels": {"detector": "knn", "representation": "pixels"},
                    "left_out": None,
                },
                "smoothing": {"gaussian_sigma": 1.5},
            },
        }
        committee = {"members": list(members)} | blocks.pop("committee", {})
        return CommitteeSettings.model_validate(given | blocks | {"committee": committee})

    return make
