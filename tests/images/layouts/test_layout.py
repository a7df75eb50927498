"""What lies below a folder, and why some of it is not used."""

from kdad.images.layouts.layout import find_files, list_categories
from kdad.images.layouts.lists import list_csv_categories
from layout_trees import open_set, write, write_all


def test_images_of_every_ending_and_the_rest_with_reasons(tmp_path):
    for name in ("a.jfif", "b.JPE", "c.gif", "d.jp2", "e.avif", "f.Tiff"):
        (tmp_path / name).touch()
    for name in ("notes.txt", "Thumbs.db", "README", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    found = find_files(tmp_path)
    assert [path.name for path in found.images] == ["a.jfif", "b.JPE", "c.gif", "d.jp2", "e.avif", "f.Tiff"]
    assert {(path.name, unused) for path, unused in ((u.path, u.reason) for u in found.unused)} == {
        ("notes.txt", "no image (.txt)"),
        ("Thumbs.db", "no image (.db)"),
        ("README", "no image (no extension)"),
        (".hidden.png", "hidden"),
        ("gone.png", "a link to a file that is not there"),
        ("circle", "a link in a circle"),
    }


def test_links_to_folders_and_files_are_followed(tmp_path):
    write_all(tmp_path / "elsewhere", "0.png", "1.png", "2.png")
    (tmp_path / "set/train").mkdir(parents=True)
    (tmp_path / "set/train/good").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "x.png")
    (tmp_path / "set/test/good").mkdir(parents=True)
    (tmp_path / "set/test/good/0.png").symlink_to(tmp_path / "x.png")
    assert [sample.id for sample in open_set(tmp_path / "set").samples] == [
        *("train/good/0.png", "train/good/1.png", "train/good/2.png", "test/good/0.png")
    ]


def test_what_is_not_used_is_said_with_an_example(tmp_path):
    write_all(tmp_path, "good/0.png", "good/1.png", "good/2.png")
    (tmp_path / "good/notes.txt").touch()
    (tmp_path / "good/gone.png").symlink_to(tmp_path / "nowhere.png")
    said = dict(open_set(tmp_path).remarks())["not used"]
    assert "1 x no image (.txt), such as good/notes.txt" in said
    assert "1 x a link to a file that is not there, such as good/gone.png" in said


def test_categories_are_folders_with_parts_or_kinds(tmp_path):
    write_all(tmp_path, "bottle/train/good/0.png", "btad/test/ok/0.png", "visa/Data/Images/Normal/0.png")
    write_all(tmp_path, "sides/OK/0.png", "nothing/0.png", "split_csv/x/0.png", "train/good/0.png")
    assert list_categories(tmp_path) == ["bottle", "btad", "sides", "visa"]
    assert list_categories(tmp_path / "gone") == []


def test_categories_of_a_list(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("path,label,object\na.png,0,nut\nb.png,0,003\nc.png,0,nut\n")
    assert list_csv_categories(file) == ["003", "nut"]
    file.write_text("path,label\na.png,0\n")
    assert list_csv_categories(file) == []
    assert list_csv_categories(tmp_path / "gone.csv") == []
