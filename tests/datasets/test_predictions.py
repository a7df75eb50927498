"""The folder of an inference as a data set: read, never written, for its node has filled it."""

import pytest
from kedro.io import DatasetError

from kdad.datasets.predictions import OutputFolderDataset, PredictionsDataset
from kdad.inference.predictions import write_predictions


def test_a_finished_table_is_read_where_its_node_wrote_it(tmp_path):
    dataset = PredictionsDataset(filepath=str(tmp_path / "photos"))
    dataset.save(write_predictions(tmp_path / "photos", []))
    assert len(dataset.load().table) == 0
    with pytest.raises(DatasetError, match="elsewhere', and not in"):
        dataset.save(write_predictions(tmp_path / "elsewhere", []))


def test_an_output_folder_is_a_place_that_need_not_be_there(tmp_path):
    dataset = OutputFolderDataset(path=str(tmp_path / "photos"))
    assert dataset.load() == tmp_path / "photos"
    with pytest.raises(DatasetError, match="is filled by the node that takes it"):
        dataset.save(tmp_path)
