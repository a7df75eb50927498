"""Solar cells from their package, or what to install."""

import sys
import types

import numpy as np
import pytest

from kdad.errors import InputError
from kdad.images import published
from kdad.images.published import ElpvSet
from kdad.parameters.dataset import DatasetParameters

#: Ten sound cells of either type, and one of each other probability.
PROBABILITIES = np.array([0.0] * 20 + [1 / 3, 2 / 3, 1.0] * 2)
TYPES = np.array(["mono"] * 10 + ["poly"] * 10 + ["mono"] * 3 + ["poly"] * 3)


@pytest.fixture
def package(monkeypatch):
    """A package like elpv-dataset, whose cell i has the value i everywhere."""
    cells = np.repeat(np.arange(26, dtype=np.uint8), 100).reshape(26, 10, 10)
    module = types.ModuleType("elpv_dataset.utils")
    module.load_dataset = lambda: (cells, PROBABILITIES, TYPES)
    monkeypatch.setitem(sys.modules, "elpv_dataset", types.ModuleType("elpv_dataset"))
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", module)
    published._load_cells.cache_clear()
    yield
    published._load_cells.cache_clear()


def open_cells(category=None, **settings):
    return ElpvSet(DatasetParameters(name="elpv", category=category, image_size=10, elpv=settings))


def counted(images):
    kinds = [(sample.subset, sample.kind, sample.label) for sample in images.samples]
    return {key: kinds.count(key) for key in kinds}


def test_cells_of_both_types(package):
    images = open_cells()
    assert counted(images) == {
        ("train", "good", 0): 16,
        ("test", "good", 0): 4,
        ("test", "probability_0.67", 1): 2,
        ("test", "probability_1.00", 1): 2,
    }
    assert images.remarks() == [("not used", "2 cells that are neither normal nor anomalous by dataset.elpv")]
    assert [sample.id for sample in images.samples] == [sample.id for sample in open_cells().samples]


def test_one_type_other_probabilities_and_the_right_pixels(package):
    images = open_cells("poly", normal_up_to=0.4, anomalous_from=0.9, test_fraction=0.5)
    # Ten sound ones and one of a third are normal; half of 11 is rounded to 6, as Python rounds 5.5.
    assert counted(images) == {("train", "good", 0): 5, ("test", "good", 0): 6, ("test", "probability_1.00", 1): 1}
    for row, sample in enumerate(images.samples):
        assert sample.id.startswith("poly/")
        np.testing.assert_allclose(images.image(row), int(sample.id[-4:]) / 255, rtol=1e-6)
    assert images.image(0).shape == (3, 10, 10)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    published._load_cells.cache_clear()
    with pytest.raises(InputError, match=r"needs the package elpv-dataset, which is not installed; .*pip install"):
        open_cells()
