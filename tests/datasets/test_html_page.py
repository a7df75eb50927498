import base64

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


def test_the_preview_is_the_first_figure(dataset):
    figures = [base64.b64encode(content).decode() for content in (b"first", b"second")]
    dataset.save("".join(f'<img src="data:image/png;base64,{figure}">' for figure in figures))
    assert base64.b64decode(dataset.preview()) == b"first"


def test_a_page_without_figures_has_an_empty_preview(dataset):
    dataset.save("<p>text</p>")
    assert dataset.preview() == ""
