"""Detectors of format 1 that commit 96941a5 kept: what this version has not removed opens and says the same."""

import shutil

import numpy as np
import pytest
import torch

from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from memory_images import MemoryImages
from projects import PROJECT

_KEPT = PROJECT / "tests/kept_before"


def test_by_total_loss_it_says_the_same_of_every_image(tmp_path):
    folder = shutil.copytree(_KEPT / "mkd_total_loss", tmp_path / "detector")
    said = np.load(_KEPT / "mkd_total_loss.npz")
    opened = open_detector(folder, "cpu")
    # Its forward map was of the direction alone, whatever is the default now.
    assert opened.settings.scoring.forward_map.term == "direction"
    found = opened.predict_batch(torch.from_numpy(MemoryImages().pixels))
    np.testing.assert_allclose([one.score for one in found], said["scores"], rtol=1e-5)
    assert [one.decision for one in found] == said["decisions"].tolist()
    np.testing.assert_allclose(np.stack([one.map for one in found[:2]]), said["maps"], rtol=1e-4, atol=1e-7)
    # Kept again, it is a detector of this version.
    again = open_detector(opened.save(tmp_path / "again"), "cpu")
    assert again.threshold == opened.threshold
    assert again.settings == opened.settings


def test_by_a_rule_that_held_out_images_shaped_it_is_refused_with_the_reason(tmp_path):
    folder = shutil.copytree(_KEPT / "mkd_both_maps", tmp_path / "detector")
    with pytest.raises(
        InputError, match=r"cannot be opened: it predicts by .*validation images shaped.*train the detector"
    ):
        open_detector(folder, "cpu")
