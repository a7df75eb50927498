import pytest
from kedro.io import DatasetError

from kdad.datasets.place import StoresDataset
from kdad.storage.content_store import Stores


def test_stores_are_three_places_that_nodes_fill(tmp_path):
    dataset = StoresDataset(features="a", models="b", cases=str(tmp_path))
    found = dataset.load()
    assert isinstance(found, Stores)
    assert [str(place) for place in (found.features, found.models, found.cases)] == ["a", "b", str(tmp_path)]
    with pytest.raises(DatasetError, match="read, never written"):
        dataset.save("anything")
