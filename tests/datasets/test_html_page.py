import pytest

from kdad.datasets.html_page import HtmlPageDataset


@pytest.fixture
def dataset(tmp_path) -> HtmlPageDataset:
    return HtmlPageDataset(filepath=str(tmp_path / "new/page.html"))


def test_a_page_is_read_as_it_was_written(dataset):
    assert not dataset.exists()
    dataset.save("<p>größer ≥ 2</p>")
    assert dataset.exists()
    assert dataset.load() == "<p>größer ≥ 2</p>"
    assert dataset._describe() == {"filepath": str(dataset._filepath)}


def test_an_older_page_is_replaced_and_nothing_else_is_left(dataset):
    dataset.save("older and longer")
    dataset.save("newer")
    assert dataset.load() == "newer"
    assert [path.name for path in dataset._filepath.parent.iterdir()] == ["page.html"]


def test_the_preview_is_the_first_table(dataset):
    head = "<table><thead><tr><th>method</th><th>PRO</th></tr></thead><tbody>"
    dataset.save(head + "".join(f"<tr><td>m{row}</td><td>0.{row}</td></tr>" for row in range(50)) + "</tbody></table>")
    shown = dataset.preview()
    assert shown["columns"] == ["method", "PRO"]
    assert shown["data"][:2] == [["m0", "0.0"], ["m1", "0.1"]]
    assert len(shown["data"]) == 40  # as many as a person looks at


def test_a_page_without_tables_has_an_empty_preview(dataset):
    dataset.save("<p>text</p>")
    assert dataset.preview() == {"index": [], "columns": [], "data": []}
