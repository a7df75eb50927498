"""Which normal images are unlike the others, by what a frozen network gave for them; thumbnails."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from kdad.compute import Compute
from kdad.features.extraction import ExtractionOptions, obtain_features
from kdad.features.network import FrozenNetwork, reference_source
from kdad.features.survey import distance_from_medians, draw_thumbnails, find_suspicious, measure_outlyingness
from kdad.images.splits import Split
from kdad.networks.parameters import SourceParameters
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of


@pytest.fixture
def store(tmp_path) -> ContentStore:
    """A store of features and of weights."""
    return ContentStore(tmp_path / "store")


@pytest.fixture
def network(store) -> FrozenNetwork:
    """A small source with random weights."""
    images = MemoryImages()
    parameters = SourceParameters(name="timm:test_resnet", weights="random")
    reference = reference_source(parameters, images, split_of(images), store)
    return FrozenNetwork(reference, Compute(torch.device("cpu"), torch.float32))


def test_outlyingness_is_in_robust_standard_deviations_of_each_channel():
    # Medians 3 and 30; absolute deviations 2 1 0 1 97 and 20 10 0 10 0 have the medians 1 and 10.
    vectors = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [100.0, 30.0]])
    expected = np.sqrt([(4 + 4) / 2, 1, 0, 1, 97**2 / 2]) / 1.4826
    np.testing.assert_allclose(distance_from_medians(vectors), expected)


def test_channels_that_say_nothing_are_left_out():
    vectors = np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [4.0, 8.0], [5.0, 7.0]])
    np.testing.assert_allclose(distance_from_medians(vectors), np.array([2, 1, 0, 1, 2]) / 1.4826)
    assert distance_from_medians(np.ones((4, 3))).tolist() == [0, 0, 0, 0]


def test_the_farthest_are_suspicious_the_farthest_first():
    # Median 1, median absolute deviation 0.1: the limit is 1 + 6 x 0.14826
    values = [0.9, np.nan, 1.1, 0.8, 1.9, 1.0, 1.2, 1.0, 3.0, 0.9, 1.0, 1.1]
    assert find_suspicious(np.array(values)).tolist() == [8, 4]


def test_few_images_say_nothing_of_what_is_usual():
    assert find_suspicious(np.array([1.0, 1.0, 1.1, 0.9, 1.0, 1.0, 50.0])).size == 0
    assert find_suspicious(np.full(20, np.nan)).size == 0


def test_a_normal_image_that_is_unlike_the_others_is_found(store, network):
    images = MemoryImages()
    images.pixels[:] = images.pixels[0] + np.random.default_rng(1).normal(0, 0.01, images.pixels.shape)
    split = split_of(images)
    odd = int(split.rows("train")[3])
    images.pixels[odd, :, :, 24:] = 1
    cache = obtain_features(store, network, images, split, ExtractionOptions(4))
    outlyingness = measure_outlyingness(split, [cache])
    assert find_suspicious(outlyingness)[:1].tolist() == [odd]
    normal = np.isin(split.table["split"], ("train", "validation"))
    assert np.isnan(outlyingness).tolist() == (~normal).tolist()


def test_an_image_of_a_united_set_is_measured_among_its_own_category():
    means = np.array([[0.0], [1], [2], [3], [4], [100], [102], [104], [106], [500], [0]])
    table = pd.DataFrame({"split": [*["train"] * 9, "validation", "test"], "member": [*"aaaaabbbbba"]})
    found = measure_outlyingness(Split(table), [SimpleNamespace(means=means)])
    # of a: median 2, deviations 2 1 0 1 2; of b: median 104, deviations 4 2 0 2 396
    expected = np.array([2, 1, 0, 1, 2, 2, 1, 0, 1, 198, np.nan]) / 1.4826
    np.testing.assert_allclose(found, expected)


def test_thumbnails_are_those_of_each_image():
    images = MemoryImages()
    # 32 x 48 pixels: a cell of 16 x 16 is 2 x 3 pixels
    expected = images.pixels.mean(axis=1).reshape(-1, 16, 2, 16, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(draw_thumbnails(images), expected, atol=1e-6)
