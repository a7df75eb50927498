import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdad.parameters.dataset import DatasetParameters, TextureParameters


def bind(**settings) -> DatasetParameters:
    return DatasetParameters(**({"image_size": 32} | settings))


@pytest.mark.parametrize(
    ("image_size", "size"), [(64, (64, 64)), ([48, 96], (48, 96)), ("48 96", (48, 96)), ("48,96", (48, 96))]
)
def test_size_is_height_and_width(image_size, size):
    assert bind(name="textures", category="brick", image_size=image_size).size == size


@pytest.mark.parametrize(
    "image_size", [7, 0, -64, 9000, 64.0, "64", True, None, [64], [64, 64, 3], [64, 7], [64, 64.5]]
)
def test_unusable_sizes_give_one_message(image_size):
    with pytest.raises(
        ValidationError, match=r"a number of pixels or \[height, width\], each from 8 to 8192"
    ) as caught:
        bind(name="textures", category="brick", image_size=image_size)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "textures", "category": "gravel"}, "gravel"),
        ({"name": "digits", "normal_class": 8}, "class_8"),
        ({"name": "mnist", "normal_class": 0}, "class_0"),
        ({"name": "fashion_mnist", "normal_class": 9, "root": "files"}, "class_9"),
        ({"name": "folder", "root": "/data/mvtec", "category": "bottle"}, "bottle"),
        ({"name": "folder", "root": "/data/parts/"}, "parts"),
        ({"name": "folder", "root": "/data/parts/../screws"}, "screws"),
        ({"name": "folder", "root": "/"}, "root"),
        ({"name": "folder", "root": "/data/btad", "category": 1}, "1"),
        ({"name": "folder", "root": "/data/a\nb"}, "a\\nb"),
        ({"name": "csv", "root": "/data/parts.csv"}, "parts"),
        ({"name": "csv", "root": "/data/parts.csv", "category": "nut"}, "nut"),
        ({"name": "elpv"}, "mono_and_poly"),
        ({"name": "elpv", "category": "mono"}, "mono"),
    ],
)
def test_category_name(settings, expected):
    assert bind(**settings).category_name == expected


def test_category_name_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bind(name="folder", root=".").category_name == tmp_path.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "textures"}, "textures needs a category; known: brick, grass, gravel"),
        ({"name": "textures", "category": "bric"}, "unknown category 'bric'; did you mean 'brick'?"),
        ({"name": "textures", "category": "x"}, "unknown category 'x'; known: brick, grass, gravel"),
        ({"name": "textures", "category": "brick", "normal_class": 1}, "set normal_class: null"),
        ({"name": "textures", "category": "brick", "root": "a"}, "root does not go with textures"),
        ({"name": "digits"}, "digits needs normal_class; the classes are 0..9"),
        ({"name": "digits", "normal_class": 12}, "unknown class 12; the classes are 0..9"),
        ({"name": "mnist", "normal_class": -1}, "unknown class -1; the classes are 0..9"),
        ({"name": "digits", "normal_class": 1, "category": "brick"}, "set category: null"),
        ({"name": "digits", "normal_class": 1, "root": "a"}, "root does not go with digits"),
        ({"name": "folder"}, "folder needs root"),
        ({"name": "folder", "root": ""}, "folder needs root"),
        ({"name": "csv"}, "csv needs root, the CSV file that lists the images"),
        ({"name": "elpv", "category": "mno"}, "unknown category 'mno'; did you mean 'mono'?"),
        ({"name": "elpv", "root": "a"}, "root does not go with elpv"),
        ({"name": "elpv", "elpv": {"normal_up_to": 0.5, "anomalous_from": 0.5}}, "must be above normal_up_to 0.5"),
        ({"name": "folder", "root": "a", "layout": {"normal": ["a"], "masks": ["a"]}}, "'a' is said twice in layout"),
        ({"name": "folder", "root": "a", "normal_class": 1}, "set normal_class: null"),
        ({"name": "textures", "category": "brick", "fit": "letterbox"}, "fit does not go with textures"),
        ({"name": "digits", "normal_class": 1, "value_range": "data"}, "set value_range: auto"),
        ({"name": "folder", "root": "a", "fit": "stretch"}, "fit"),
        ({"name": "folder", "root": "a", "catgory": "b"}, "unknown parameter 'catgory'; did you mean 'category'?"),
    ],
)
def test_what_does_not_fit_together(settings, message):
    with pytest.raises(ValidationError) as caught:
        bind(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("category", ["", ".", "..", "a/b", "../b", "/b", "a\\b", "c:"])
def test_category_cannot_lead_out_of_its_folder(category):
    with pytest.raises(ValidationError, match="must be the name of one folder in root"):
        bind(name="folder", root="a", category=category)


@given(st.text(min_size=1, max_size=12))
def test_an_accepted_category_is_one_part_of_a_path(category):
    try:
        name = bind(name="folder", root="a", category=category).category_name
    except ValidationError:
        return
    assert "/" not in name
    assert name not in (".", "..")


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_validation_fraction_is_a_share(fraction):
    with pytest.raises(ValidationError, match="validation_fraction"):
        bind(name="textures", category="brick", validation_fraction=fraction)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", "auto"),
        (["data"], "data"),
        ("type", "type"),
        ([0, 4095], [0, 4095]),
        ("0 4095", [0, 4095]),
        ([-1.5, 2], [-1.5, 2]),
    ],
)
def test_ranges_of_values(given, expected):
    assert bind(name="folder", root="a", value_range=given).value_range == expected


@pytest.mark.parametrize(
    "given", ["all", [1], [2, 1], [1, 1], [0, 1, 2], [0, "x"], [0, float("inf")], [0, float("nan")], 3]
)
def test_what_is_no_range_is_named(given):
    with pytest.raises(ValidationError, match=r"value_range is auto, type, data or \[low, high\]"):
        bind(name="folder", root="a", value_range=given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_normal": 0, "test_per_defect": 0}, "nothing to score"),
        ({"train_images": 0}, "train_images"),
        ({"defects": {"kinds": []}}, "kinds"),
        ({"defects": {"kinds": ["dent"]}}, "kinds"),
        ({"defects": {"kinds": ["hole", "blur", "hole"]}}, "names a defect twice"),
        ({"defects": {"strength": 0}}, "strength"),
        ({"defects": {"strength": 1.1}}, "strength"),
        ({"defects": {"softness": 0}}, "softness"),
        ({"defects": {"size": 0.6}}, "size"),
        ({"defects": {"strenght": 0.5}}, "did you mean 'strength'"),
    ],
)
def test_texture_settings_out_of_range(settings, message):
    with pytest.raises(ValidationError, match=message):
        TextureParameters(**settings)
