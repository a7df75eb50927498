"""A mistake in the catalog is one message, before any data set's module is imported."""

import pytest
from kedro.io import AbstractDataset, DatasetError

from kdad.project.catalog_types import check_types, wrong_entry
from kdad.project.command_line import CommandLineError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("pandas.CSVDatset", "did you mean 'pandas.CSVDataset'?"),
        ("pandsa.CSVDataset", "did you mean 'pandas.CSVDataset'?"),
        ("MemoryDatset", "did you mean 'MemoryDataset'?"),
        ("kdad.datasets.shown.HtmlPageDatset", "did you mean 'kdad.datasets.shown.HtmlPageDataset'?"),
    ],
)
def test_a_type_that_there_is_not_is_named_with_its_file_and_the_nearest(tmp_path, wrong, said):
    (tmp_path / "catalog.yml").write_text(f"table:\n  type: {wrong}\n")
    (tmp_path / "other.yml").write_text("type: pandas.CSVDataset\n")
    with pytest.raises(CommandLineError) as caught:
        check_types({"table": {"type": wrong}}, [tmp_path])
    assert str(caught.value).splitlines()[1:] == [f"  {tmp_path / 'catalog.yml'}: there is no type '{wrong}'; {said}"]


def test_types_that_there_are():
    known = ("pandas.CSVDataset", "kedro_datasets.json.JSONDataset", "MemoryDataset", "kedro.io.CachedDataset")
    check_types({name: {"type": name} for name in (*known, "kdad.datasets.place.StoresDataset")}, [])


def test_a_type_of_an_integrators_own_need_not_be_called_data_set(tmp_path, monkeypatch):
    (tmp_path / "their_own.py").write_text("class Camera(AbstractDataset): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_types({"camera": {"type": "their_own.Camera"}}, [])
    with pytest.raises(CommandLineError, match=r"there is no type 'their_own\.Camra'"):
        check_types({"camera": {"type": "their_own.Camra"}}, [])


def test_entries_without_a_type_are_named():
    with pytest.raises(CommandLineError) as caught:
        check_types({"a": 3, "b": {"filepath": "x"}, "c": {"type": ["MemoryDataset"]}, "_shared": {"x": 1}}, [])
    said = [f"  catalog: '{name}' has no type; give one, such as pandas.CSVDataset" for name in "abc"]
    assert str(caught.value).splitlines()[1:] == said


def test_a_key_that_a_type_does_not_take_is_named_with_the_nearest():
    with pytest.raises(DatasetError) as caught:
        AbstractDataset.from_config("table", {"type": "kdad.datasets.shown.HtmlPageDataset", "filpath": "a"})
    said = str(wrong_entry(caught.value))
    assert said == "catalog: 'table' has an unknown key 'filpath'; did you mean 'filepath'?"
    assert wrong_entry(DatasetError("something else")) is None
