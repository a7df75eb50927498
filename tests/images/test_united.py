"""Several categories as one set: every image is what it is alone, and each category is split as if alone."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.fitting import Preparation
from kdad.images.files.value_range import ValueRange
from kdad.images.registry import UnitedSet, open_image_set
from kdad.images.splits import member_of, split_set
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore

FEW = {"train_images": 6, "validation_images": 3, "test_normal": 2, "test_per_defect": 1}


def block(category, **more) -> DatasetParameters:
    return DatasetParameters(name="textures", category=category, image_size=32, textures=FEW, **more)


def test_each_image_is_that_of_its_category_under_a_longer_id():
    united = open_image_set(block(["gravel", "brick"]))
    alone = [open_image_set(block(name)) for name in ("gravel", "brick")]
    assert (united.category, len(united.samples)) == ("gravel_and_brick", 2 * 16)
    for row in range(32):
        one, at = alone[row // 16], row % 16
        assert united.samples[row].id == f"{one.category}/{one.samples[at].id}"
        assert np.array_equal(united.image(row), one.image(at))
        assert united.fingerprint(row) == one.fingerprint(at)
        mask, own = united.own_mask(row), one.own_mask(at)
        assert (mask is None) == (own is None) and (mask is None or np.array_equal(mask, own))
    assert united.problems() == []


def test_all_means_every_category():
    assert open_image_set(block("all")).samples[-1].id.startswith("gravel/")
    assert block("all").category_name == "all"


def test_each_category_is_split_as_if_alone():
    parameters = {"validation_fraction": 0.3, "max_train_images": 2}
    united = open_image_set(block("all", **parameters))
    samples = [sample for sample in united.samples if sample.subset != "validation"]
    split = split_set(samples, block("all", **parameters), 5)
    alone = []
    for name in ("brick", "grass", "gravel"):
        one = open_image_set(block(name, **parameters))
        own = [sample for sample in one.samples if sample.subset != "validation"]
        alone += split_set(own, block(name, **parameters), 5)
    assert split == alone
    assert split.count("train") == 3 * 2


def test_categories_are_called_as_they_are_whatever_is_made_of_their_images():
    """By these names a detector of several is asked for one, and an ablation measures each."""
    given = block(["gravel", "brick"], max_train_images=4)
    united = open_image_set(given)
    assert united.category == "gravel_and_brick_train_4"
    assert set(member_of([sample.id for sample in united.samples])) == {"gravel", "brick"}
    plain = open_image_set(block(["gravel", "brick"]))
    parts = dict(zip([one.id for one in united.samples], split_set(united.samples, given, 3), strict=True))
    whole = dict(zip([one.id for one in plain.samples], split_set(plain.samples, given, 3), strict=True))
    assert {name: parts[name] for name in whole} == whole


@pytest.mark.parametrize(
    ("category", "said"),
    [
        (["brick"], "takes two or more names"),
        (["brick", "brick"], "each once"),
        (["brick", "gras"], "unknown category 'gras'; did you mean 'grass'"),
    ],
)
def test_names_that_cannot_be_united_are_one_message(category, said):
    with pytest.raises(ValidationError, match=said):
        block(category)


def test_a_root_of_one_set_has_no_categories_to_unite(tmp_path):
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(InputError, match="has 0 categories"):
        open_image_set(DatasetParameters(name="folder", root=str(tmp_path), category="all", image_size=32))


def test_values_that_are_read_in_two_ways_are_one_message():
    members = [open_image_set(block(name)) for name in ("brick", "grass")]
    united = UnitedSet(members, block(["brick", "grass"]))
    assert united.preparation == Preparation()

    class Wide(type(members[1])):
        preparation = Preparation("resize", ValueRange(kind="integer", low=0, high=5000))

    members[1].__class__ = Wide
    with pytest.raises(InputError, match=r"'brick' .* 'grass' .*give dataset\.value_range"):
        UnitedSet(members, block(["brick", "grass"])).images_of(np.arange(2))


def test_opening_decodes_nothing_and_what_is_wrong_is_said_of_every_category(tmp_path):
    for category in ("nuts", "bolts"):
        for part in ("train", "test"):
            (tmp_path / f"set/{category}/{part}/good").mkdir(parents=True)
            for number in range(3):
                path = tmp_path / f"set/{category}/{part}/good/{number}.png"
                Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(path)
        (tmp_path / f"set/{category}/train/good/torn.png").write_bytes(b"no image")
    store = ContentStore(tmp_path / "store")
    parameters = DatasetParameters(name="folder", root=str(tmp_path / "set"), category="all", image_size=8)
    united = open_image_set(parameters, store=store)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    with pytest.raises(InputError, match="cannot be used") as caught:
        check_images(united)
    for category in ("nuts", "bolts"):
        assert f"{category}: " in str(caught.value)
        assert str(tmp_path / f"set/{category}/train/good/torn.png") in str(caught.value)
