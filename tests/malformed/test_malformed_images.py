"""No malformed image is taken for one, and each is named, whichever way it is read."""

import os

import pytest
from PIL import Image

from kdad.detectors.predictor import read_or_say
from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.decoding import decode_image, decode_raw, read_size
from kdad.images.files.file_facts import kind_by_header, measure_file
from kdad.images.files.fitting import Preparation
from kdad.images.files.mask_files import read_mask
from kdad.images.layouts.layout import find_files, look_for_images
from kdad.images.natural_pool import NaturalPool
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from malformed.image_files import (
    FORMATS,
    images_of_no_use,
    images_with_torn_pages,
    malformed_images,
    pages,
    pages_in_a_circle,
    sound,
    wide,
)

CORPUS = dict(malformed_images())


def test_the_corpus_is_the_same_every_time_and_its_sound_images_are_read(tmp_path):
    assert dict(malformed_images()) == CORPUS
    assert len(CORPUS) == len(list(malformed_images()))
    for suffix, kind in FORMATS.items():
        (tmp_path / f"sound{suffix}").write_bytes(sound(kind))
        assert decode_image(tmp_path / f"sound{suffix}").shape == (3, 24, 24)
    for mode, kind in (("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF"), ("I;16", "PNG"), ("I;16", "JPEG2000")):
        (tmp_path / "wide").write_bytes(wide(mode, kind))
        assert decode_raw(tmp_path / "wide").pixels.shape == (24, 24)
    for kind in ("TIFF", "GIF"):
        (tmp_path / "pages").write_bytes(pages(kind))
        assert measure_file(tmp_path / "pages", decode_raw(tmp_path / "pages")).frames == 3


@pytest.mark.parametrize(("name", "content"), images_of_no_use())
def test_an_image_of_values_that_are_none_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        decode_image(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["nan.tif", "infinite.tif", "minus_infinite.tif"])
def test_a_mask_of_values_that_are_no_numbers_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(dict(images_of_no_use())[name])
    with pytest.raises(InputError, match=r"1 of its 576 pixels are NaN or infinite, the first at row 3, column 4"):
        read_mask(path)


@pytest.mark.parametrize(("name", "content"), images_with_torn_pages())
def test_an_image_with_torn_later_pages_is_named_and_never_a_traceback(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        measure_file(path, decode_raw(path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", CORPUS)
def test_a_malformed_image_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CORPUS[name])
    for decode in (decode_image, read_mask):
        with pytest.raises(InputError) as caught:
            decode(path)
        assert str(caught.value).startswith(f"{path}: ")
    image, problem = read_or_say(path, Preparation(values=None))
    assert image is None and problem.startswith(f"{path}: ")
    for read in (read_size, kind_by_header):
        try:  # a header may be whole
            assert read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")


def test_pages_in_a_circle_end(tmp_path):
    path = tmp_path / "circle.tif"
    path.write_bytes(pages_in_a_circle())
    assert measure_file(path, decode_raw(path)).frames == 1


def test_a_set_with_malformed_images_names_every_one_before_anything_is_computed(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(3):
        Image.new("L", (24, 24), 9).save(tmp_path / f"good/sound_{number}.png")
    for name, content in CORPUS.items():
        (tmp_path / "good" / name).write_bytes(content)
    images = open_image_set(DatasetParameters(name="folder", root=str(tmp_path), image_size=8))
    problems = images.problems()
    assert [name for name in CORPUS if not any(f"good/{name}: " in line for line in problems)] == []
    assert not any("sound_" in line for line in problems)
    with pytest.raises(InputError, match=rf"\n  and {len(problems) - 20} more$"):
        check_images(images)


def test_a_folder_that_is_predicted_lists_every_malformed_image_and_has_no_size_where_there_is_none(tmp_path):
    for name, content in CORPUS.items():
        (tmp_path / name).write_bytes(content)
    found = look_for_images(tmp_path)
    assert sorted(found.names) == sorted(CORPUS)
    sizes = dict(zip(found.names, found.sizes, strict=True))
    assert sizes["cut_0_of_8.png"] is sizes["html_content.png"] is sizes["bomb.png"] is None


def test_a_pool_with_a_malformed_image_names_it(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (70, 70), 9).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(CORPUS["cut_0_of_8.png"])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"/c\.png: cannot be read as an image"):
        _ = NaturalPool(str(tmp_path)).sizes


@pytest.mark.parametrize("name", ["a.png", "folder"])
def test_links_in_a_circle_are_no_images_and_end(tmp_path, name):
    Image.new("L", (24, 24), 9).save(tmp_path / "sound.png")
    (tmp_path / name).symlink_to(tmp_path / "back")
    (tmp_path / "back").symlink_to(tmp_path / name)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/up").symlink_to(tmp_path)
    found = look_for_images(tmp_path)
    assert found.names == [path.name for path in find_files(tmp_path).images] == ["sound.png"]
    assert "a link to a folder, which is not followed" in " ".join(found.left_out)
    with pytest.raises(InputError):
        decode_image(tmp_path / "back")


@pytest.mark.parametrize(
    "name",
    [
        "=HYPERLINK(1).png",
        "a,b;c.png",
        'quo"te.png',
        "new\nline.png",
        "<b onclick=1>.png",
        "-rf.png",
        "$HOME `id`.png",
        "%2e%2e.png",
        b"no\xff\xfeutf8.png",
        "\u202egnp.exe.png",
        "a" * 240 + ".png",
        " .png",
    ],
)
def test_an_odd_name_is_a_name(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(sound("PNG"))
    found = look_for_images(tmp_path)
    assert found.paths == [path]
    assert decode_image(path).shape == (3, 24, 24)
    path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        decode_image(path)
    assert str(caught.value).startswith(f"{path}: ")
