"""Which categories there are."""

from kdad.images.layouts.categories import list_categories
from kdad.images.layouts.csv_list import list_csv_categories
from layout_trees import write_all


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
