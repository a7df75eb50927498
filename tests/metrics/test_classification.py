import math

import pytest
import torch

from kdad.errors import InputError
from kdad.metrics.classification import classification_metrics


def test_accuracy_and_calibration_by_hand():
    # Confidences .9, .9 and .6, .6; of the first two one is right, of the others both:
    # the gaps |.9 - .5| and |.6 - 1| are .4 each, half of the images each.
    def logit(share: float) -> float:
        return math.log(share / (1 - share))

    logits = torch.tensor([[logit(0.9), 0.0], [logit(0.9), 0.0], [0.0, logit(0.6)], [0.0, logit(0.6)]])
    found = classification_metrics(logits, torch.tensor([0, 1, 1, 1]))
    assert found["accuracy"] == 0.75
    assert found["ece"] == pytest.approx(0.4, abs=1e-6)


def test_a_sure_and_right_classifier_is_calibrated():
    found = classification_metrics(torch.eye(3) * 100, torch.arange(3))
    assert found == {"accuracy": 1.0, "ece": pytest.approx(0, abs=1e-6)}


def test_lengths_that_differ():
    with pytest.raises(InputError, match="2 predictions for 3 labels"):
        classification_metrics(torch.zeros(2, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="0 predictions for 0 labels"):
        classification_metrics(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
