"""Where a set is, which categories there are, and when one has to be chosen."""

import pytest

from kdad.errors import InputError
from kdad.images.layouts.csv_list import list_csv_categories
from kdad.images.layouts.reading import list_categories
from layout_trees import numbered, open_set, write_all


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


@pytest.mark.parametrize("inner", ["train/good", "good", "Data/Images/Normal"])
def test_a_root_of_several_categories_asks_for_one(tmp_path, inner):
    write_all(tmp_path, *numbered(f"nut/{inner}", 3), *numbered(f"bolt/{inner}", 3))
    with pytest.raises(InputError, match=r"set dataset\.category to one of its folders: bolt, nut"):
        open_set(tmp_path)
    assert len(open_set(tmp_path, "nut").samples) == 3


def test_a_category_of_digits(tmp_path):
    write_all(tmp_path, *numbered("01/train/ok", 3), *numbered("7/train/ok", 3))
    assert open_set(tmp_path, "01").category == "01"
    assert open_set(tmp_path, 7).category == "7"
    with pytest.raises(InputError, match=r"no folder '1' in .*did you mean '01'"):
        open_set(tmp_path, 1)
