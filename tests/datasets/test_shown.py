import base64
import io

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kdad.datasets.shown import FigureDataset, FiguresDataset, HtmlPageDataset, PngFilesDataset, TidyTableDataset, widen


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


def picture(width: int, height: int, colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="png")
    return buffer.getvalue()


def test_the_folder_holds_just_the_pictures_that_were_saved_last(tmp_path):
    dataset = PngFilesDataset(filepath=str(tmp_path / "sheets"))
    assert not dataset.exists()
    dataset.save({"b.png": b"one", "a.png": b"two"})
    (tmp_path / "sheets/notes.txt").touch()
    assert dataset.load() == {"a.png": b"two", "b.png": b"one"}
    dataset.save({"a.png": b"three"})
    assert dataset.load() == {"a.png": b"three"}
    assert (tmp_path / "sheets/notes.txt").exists()


def previewed(dataset: PngFilesDataset) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(dataset.preview())))


def test_the_preview_is_all_pictures_one_below_the_other(tmp_path):
    dataset = PngFilesDataset(filepath=str(tmp_path / "sheets"))
    dataset.save({"b.png": picture(4, 2, "red"), "a.png": picture(3, 5, "blue")})
    shown = previewed(dataset)
    assert shown.size == (4, 7)  # as wide as the widest, as high as both
    assert [shown.getpixel(place) for place in ((0, 0), (3, 0), (3, 6))] == [(0, 0, 255), (255,) * 3, (255, 0, 0)]


def test_the_preview_of_no_pictures_is_empty(tmp_path):
    assert previewed(PngFilesDataset(filepath=str(tmp_path / "none"))).size == (1, 1)


def test_figures_are_kept_as_pictures_and_earlier_ones_dropped(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path / "figures"))
    dataset.save({"old.png": Figure(figsize=(1, 1), dpi=10)})
    dataset.save({"new.png": Figure(figsize=(2, 1), dpi=10)})
    (content,) = dataset.load().values()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["new.png"]
    width, height = Image.open(io.BytesIO(content)).size
    assert width == 2 * height  # inches; tests may draw more coarsely


TABLE = pd.DataFrame(
    [
        ("loss", "b", 0, "pro_auc", 0.5, 1.0),
        ("loss", "b", 1, "pro_auc", 0.7, 1.0),
        ("loss", "b", 0, "flops", 2_000_000, 1.0),
        ("loss", "a", 0, "pro_auc", 0.25, None),
    ],
    columns=["axis", "variant", "seed", "metric", "value", "paper"],
)


def test_a_row_holds_all_of_a_variant_and_cells_are_means_over_seeds():
    wide = widen(TABLE, ["axis", "variant"], "metric", ["value"])
    assert list(wide.columns) == ["axis", "variant", "pro_auc", "flops"]
    assert wide.values.tolist() == [["loss", "b", "0.6", "2,000,000"], ["loss", "a", "0.25", ""]]


def test_several_values_stand_side_by_side_without_columns_of_nothing():
    wide = widen(TABLE[TABLE["metric"] == "pro_auc"], ["metric"], "variant", ["paper", "value"])
    assert list(wide.columns) == ["metric", "b paper", "b value", "a value"]
    assert wide.values.tolist() == [["pro_auc", "1", "0.6", "0.25"]]


def test_the_preview_is_the_wide_form(tmp_path):
    dataset = TidyTableDataset(filepath=str(tmp_path / "table.csv"), save_args={"index": False})
    dataset.save(TABLE)
    shown = dataset.preview(nrows=1, rows=["axis", "variant"], columns="metric", values=["value"])
    assert shown == {
        "index": [0],
        "columns": ["axis", "variant", "pro_auc", "flops"],
        "data": [["loss", "b", "0.6", "2,000,000"]],
    }


def test_an_empty_table_has_an_empty_preview(tmp_path):
    assert widen(TABLE.iloc[:0], ["axis"], "metric", ["value"]).empty


def test_a_figure_loads_as_the_picture_that_it_was_saved_as(tmp_path):
    figure = Figure(figsize=(2, 1), dpi=50)
    dataset = FigureDataset(filepath=str(tmp_path / "figure.png"))
    dataset.save(figure)
    assert dataset.load().size == (100, 50)
    dataset = FigureDataset(filepath=str(tmp_path / "sharp.svg"))
    dataset.save(figure)
    assert b"<svg" in dataset.load()
    assert Image.open(tmp_path / "sharp.png").size == (100, 50)
