import base64
import io

from matplotlib.figure import Figure
from PIL import Image

from kdad.datasets.png_files import FiguresDataset, PngFilesDataset


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
