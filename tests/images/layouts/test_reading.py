"""When a category has to be chosen, and how it is named."""

import pytest

from kdad.errors import InputError
from layout_trees import numbered, open_set, write_all


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
