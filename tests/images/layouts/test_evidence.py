"""What contradicts is a question that names files, and no advice leads to training on defects."""

import logging
import re
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from images.test_checks import pictures, table_of, thumbnails_of
from kdad.errors import InputError
from kdad.images.checks import check_images, say_films
from kdad.images.files.file_facts import find_damage
from kdad.images.layouts.layout import look_for_images
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.pipelines.ingestion.nodes import split_images, validate_images
from layout_trees import SHAPE, counted, masked, numbered, open_set, write, write_all, write_mask

BLOCK = {"name": "folder", "root": "x", "image_size": 16}


def photograph(path, number=0, shape=SHAPE):
    """Write an image of many values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return noise


def photographs(base, folder, count, ending=".png"):
    for name in numbered(folder, count, ending):
        photograph(base / name, zlib.crc32(name.encode()))


# --- Advice is safe to copy.


def test_no_question_proposes_that_all_folders_are_normal(tmp_path):
    for good, bad, proposed in (
        ("0", "1", "NAME, ..."),
        ("0_normal", "1_defect", "'0_normal'"),
        ("gut", "schlecht", "NAME"),
        ("plain", "normal_or_defect", "NAME"),
    ):
        base = tmp_path / good
        write_all(base, *numbered(good, 4), *numbered(bad, 2))
        with pytest.raises(InputError, match=r"name those that do, and no others: dataset\.layout\.normal=") as said:
            open_set(base)
        assert f"dataset.layout.normal=[{proposed}" in str(said.value)
        assert f"'{bad}'" not in str(said.value)
    images = open_set(tmp_path / "0_normal", layout={"normal": ["0_normal"]})
    assert counted(images)["test", "1_defect"] == 2
    images = open_set(tmp_path / "0_normal", layout={"normal": ["0_normal", "1_defect"]})
    assert any(text.startswith("'1_defect' sounds anomalous, and is taken as normal") for _, text in images.remarks())


def test_training_folders_of_unknown_names_are_not_proposed_as_normal(tmp_path):
    write_all(tmp_path, *numbered("train/cast", 3), *numbered("train/torn", 3), *numbered("test/good", 2))
    with pytest.raises(InputError, match=r"name those that hold normal images, and no others: .*\[NAME, \.\.\.\]$"):
        open_set(tmp_path)


def write_mvtec_ad_2(base):
    write_all(base, *numbered("train/good", 5), *numbered("validation/good", 2), *numbered("test_public/good", 2))
    write_all(base, *numbered("test_public/bad", 2), *numbered("test_private", 3), *numbered("test_private_mixed", 3))
    for number in range(2):
        write_mask(base / f"test_public/ground_truth/bad/{number:03d}_mask.png")


def test_mvtec_ad_2_and_no_part_of_it_as_a_category(tmp_path):
    write_mvtec_ad_2(tmp_path / "can")
    images = open_set(tmp_path, "can")
    check_images(images)
    parts = {("train", "good"): 5, ("validation", "good"): 2, ("test", "good"): 2, ("test", "bad"): 2}
    assert counted(images) == parts
    assert masked(images) == ["test_public/bad/000.png", "test_public/bad/001.png"]
    assert "6 x of a part whose labels are not published" in dict(images.remarks())["not used"]
    for name in ("test_public", "test_private"):
        with pytest.raises(InputError, match=rf"'{name}' is a part of the set in .*, and no category"):
            open_set(tmp_path / "can", name)


def test_parts_of_other_names_are_asked_about(tmp_path):
    write_all(tmp_path, *numbered("my_train/good", 3), *numbered("my_test/bad", 2))
    with pytest.raises(InputError, match=r"which parts are my_test, my_train\? .*a part of a set is no category"):
        open_set(tmp_path)


def test_a_read_only_set_with_defects_in_training_is_used_by_leaving_folders_out(tmp_path):
    write_all(tmp_path, *numbered("train/NORMAL", 4), *numbered("val/NORMAL", 2), *numbered("test/NORMAL", 2))
    write_all(tmp_path, *(name for part in ("train", "val", "test") for name in numbered(f"{part}/PNEUMONIA", 2)))
    proposed = ["train/PNEUMONIA", "val/PNEUMONIA"]
    with pytest.raises(InputError, match=r"only normal images train; .*leave it out: dataset\.layout\.ignore=") as said:
        check_images(open_set(tmp_path))
    assert f"dataset.layout.ignore={proposed}" in str(said.value)
    images = open_set(tmp_path, layout={"ignore": proposed})
    check_images(images)
    assert counted(images) == {
        ("train", "good"): 4,
        ("validation", "good"): 2,
        ("test", "good"): 2,
        ("test", "PNEUMONIA"): 2,
    }
    with pytest.raises(InputError, match=r"dataset\.layout\.ignore: 'val/PNEUMONA' names nothing below"):
        open_set(tmp_path, layout={"ignore": ["val/PNEUMONA"]})


# --- Evidence is not dropped.


def test_a_mask_that_marks_something_in_a_normal_image_is_a_question(tmp_path):
    write_all(tmp_path, *numbered("train/good", 4), *numbered("test/good", 3), *numbered("test/bad", 1))
    write_mask(tmp_path / "ground_truth/bad/000.png")
    write_mask(tmp_path / "ground_truth/good/000.png", slice(0, 0))
    write_mask(tmp_path / "ground_truth/good/001.png")
    with pytest.raises(InputError, match=r"good/001\.png: marks something in .*test/good/001\.png, which is normal"):
        check_images(open_set(tmp_path))
    images = open_set(tmp_path, layout={"ignore": ["test/good/001.png", "ground_truth/good/001.png"]})
    check_images(images)
    assert counted(images)["test", "good"] == 2


def test_images_beside_a_folder_of_masks_are_labelled_by_these(tmp_path):
    write_all(tmp_path, *numbered("JPEGImages", 6))
    for number in (4, 5):
        write_mask(tmp_path / f"SegmentationClass/{number:03d}.png")
    with pytest.raises(InputError, match=r"000\.png: has no mask or annotation, as 3 more of 6 images"):
        open_set(tmp_path)
    for layout in ({"normal": ["JPEGImages"]}, {"normal": ["JPEGImages"], "masks": ["SegmentationClass"]}):
        images = open_set(tmp_path, layout=layout)
        check_images(images)
        assert counted(images) == {("train", "good"): 3, ("test", "good"): 1, ("test", "defect"): 2}
        assert masked(images) == ["JPEGImages/004.png", "JPEGImages/005.png"]


def test_masks_and_drawings_among_images_are_a_question_whose_answers_are_right(tmp_path):
    cases = {
        "json": (["000_json/img.png", "000_json/label.png", "000_json/label_viz.png"], "ignore=['*_json']"),
        "heat": (["000_heatmap.png"], "ignore=['*_heatmap.png']"),
        "views": (["000_top.png"], None),
        "label": (["label/000.png"], "ignore=['label']"),
    }
    for name, (more, proposed) in cases.items():
        base = tmp_path / name
        write_all(base, *numbered("train/good", 3), "test/good/g.png", "test/bad/000.png")
        write_all(base, *(f"test/bad/{each}" for each in more))
        if proposed is None:
            assert counted(open_set(base))["test", "bad"] == 2
            continue
        with pytest.raises(InputError, match=rf"{more[0]}: this and {len(more) - 1} more files") as said:
            open_set(base)
        assert f"dataset.layout.{proposed}" in str(said.value)
        pattern = proposed.split("'")[1]
        assert counted(open_set(base, layout={"ignore": [pattern]}))["test", "bad"] == 1
        assert counted(open_set(base, layout={"anomalous": ["bad"]}))["test", "bad"] == 1 + len(more)
    write_mask(tmp_path / "label/test/bad/label/000.png")
    images = open_set(tmp_path / "label", layout={"masks": ["label"]})
    check_images(images)
    assert masked(images) == ["test/bad/000.png"]


def test_masks_of_their_images_names_with_another_ending_are_a_question(tmp_path):
    photographs(tmp_path, "train/good", 4)
    photographs(tmp_path, "test/good", 1)
    photographs(tmp_path, "test/bad", 2, ".jpg")
    write_mask(tmp_path / "test/bad/000.bmp")
    write_mask(tmp_path / "test/bad/001.bmp")
    with pytest.raises(
        InputError, match=r"000\.bmp: this and 1 more images hold two values each.*have the name"
    ) as said:
        check_images(open_set(tmp_path))
    assert "dataset.layout.ignore=['*bad/*.bmp']" in str(said.value)
    images = open_set(tmp_path, layout={"ignore": ["*bad/*.bmp"]})
    check_images(images)
    assert counted(images)["test", "bad"] == 2


def test_all_black_test_frames_are_no_masks(tmp_path):
    photographs(tmp_path, "train/good", 4)
    photographs(tmp_path, "test/good", 1)
    write(tmp_path / "test/dead/0.png", 0)
    write(tmp_path / "test/dead/1.png", 0)
    check_images(open_set(tmp_path))


def test_thumbnails_of_a_nas_do_not_train_and_are_not_predicted(tmp_path):
    write_all(
        tmp_path, *numbered("train/good", 3), "train/good/@eaDir/000.png/SYNOPHOTO_THUMB.jpg", *numbered("test/x", 1)
    )
    images = open_set(tmp_path)
    assert counted(images)["train", "good"] == 2  # and one of three is kept for the test
    assert "1 x a folder of the system (@eaDir)" in dict(images.remarks())["not used"]
    assert len(look_for_images(tmp_path / "train").paths) == 3


def write_list(base, head, *rows):
    (base / "list.csv").write_text("\n".join([head, *rows]) + "\n")
    return open_set(base / "list.csv", name="csv")


def test_columns_of_parts_are_understood_or_asked_about_and_others_are_named_first(tmp_path):
    write_all(tmp_path, *numbered("x", 6))
    labels = [0, 0, 0, 0, 0, 1]
    parts = ["train", "train", "train", "test", "test", "test"]
    rows = [f"x/{n:03d}.png,{label},{part}" for n, (label, part) in enumerate(zip(labels, parts, strict=True))]
    for title in ("split", "set", "usage", "fold", "of me"):
        images = write_list(tmp_path, f"path,label,{title}", *rows)
        assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "anomaly"): 1}
    folds = [row.rsplit(",", 1)[0] + f",{number % 3}" for number, row in enumerate(rows)]
    for title in ("fold", "is_train"):
        with pytest.raises(InputError, match=rf"does the column '{title}' say which images train\?.*such as '0'"):
            write_list(tmp_path, f"path,label,{title}", *folds)
    images = write_list(tmp_path, "path,label,group", *folds)
    assert ("note", "columns of the list that are not known, and used only where all their cells are parts: group") in (
        images.remarks()
    )
    rows[4] = "x/004.png,0,"
    with pytest.raises(InputError, match=r"list\.csv, line 6: names no part, as other rows do"):
        check_images(write_list(tmp_path, "path,label,split", *rows))


# --- Names.


def test_names_are_compared_in_one_form_of_unicode(tmp_path):
    apart, together = (unicodedata.normalize(form, "Prüfling") for form in ("NFD", "NFC"))
    assert apart != together
    write_all(tmp_path, *numbered("train/good", 3), "test/good/g.png", f"test/bad/{apart}.png")
    write_mask(tmp_path / f"ground_truth/bad/{together}_mask.png")
    images = open_set(tmp_path)
    check_images(images)
    assert len(masked(images)) == 1
    write_all(tmp_path / apart, *numbered("good", 4))
    assert len(open_set(tmp_path, together).samples) == 4
    rows = [f"train/good/{number:03d}.png,0" for number in range(3)]
    images = write_list(tmp_path, "path,label", *rows, f"test/bad/{together}.png,1")
    check_images(images)
    assert len(images.samples) == 4


# --- Labels that can be told without looking, and files.


def table_of_set(root, **more):
    return validate_images(open_set(root, **more))


def test_a_label_that_files_tell_is_a_warning_before_training(tmp_path, caplog):
    for number in range(8):
        photograph(tmp_path / f"good/{number}.png", number)
    for number in range(3):
        grey = np.random.default_rng(50 + number).integers(0, 256, (10, 10), dtype=np.uint8)
        (tmp_path / "bad").mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / f"bad/{number}.jpg")
    with caplog.at_level(logging.WARNING, logger="kdad"):
        table_of_set(tmp_path)
    (said,) = (record.getMessage() for record in caplog.records if "without looking" in record.getMessage())
    for fact in (
        "ending: anomalous .jpg, normal .png",
        "mode: anomalous L, normal RGB",
        "size: anomalous 10 x 10, normal",
    ):
        assert fact in said
    photograph(tmp_path / "bad/3.png", 7)  # one of the others' kind is enough
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="kdad"):
        table_of_set(tmp_path)
    assert "without looking" not in caplog.text


def test_frames_of_films_in_both_parts_are_said_and_parts_before_one_camera_are_not():
    films = pictures(6)
    films = np.stack([np.roll(film, 7 * number, axis=1) for number, film in enumerate(films)])
    generator = np.random.default_rng(3)
    frames = np.concatenate([film + generator.normal(0, 1, (20, *film.shape)) for film in films]).clip(0, 255)
    rows = [(f"v{row // 20}/{row}", "good", "validation" if row % 10 == 0 else "train", str(row)) for row in range(120)]
    (said,) = say_films(table_of(*rows), thumbnails_of(frames))
    assert said.startswith("12 of 12 validation images have a near twin among the training images")
    assert say_films(table_of(*rows), thumbnails_of(pictures(120))) == []


def test_names_that_look_like_films_are_said_with_what_to_set(tmp_path, caplog):
    """The advice is followed as it stands, and no film is then in two parts."""
    by_folder = [f"train/good/v{film:02d}/{frame:04d}.png" for film in range(4) for frame in range(6)]
    by_name = [f"train/good/film{film}_{frame:04d}.png" for film in range(4) for frame in range(6)]
    plain = [f"train/good/{number:03d}.png" for number in range(24)]
    kinds = [f"train/good/{kind}/{number:03d}.png" for kind in "ab" for number in range(12)]
    few = [f"train/good/part{part:02d}_{view}.png" for part in range(12) for view in range(2)]
    for number, (names, groups) in enumerate(
        [(by_folder, "folder"), (by_name, "(.+?)(?:[_-][0-9]+)?[.][^.]*$"), (plain, None), (kinds, None), (few, None)]
    ):
        base = write_all(tmp_path / str(number), *names, *numbered("test/good", 2), *numbered("test/bad", 2))
        parameters = DatasetParameters(name="folder", root=str(base), image_size=16)
        caplog.clear()
        split_images(validate_images(open_image_set(parameters)), parameters, 0)
        said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Films")]
        assert len(said) == (groups is not None)
        if not groups:
            continue
        assert (
            "images are of 4 films (or batches), and 12 of 12 validation images are of one that trains too" in said[0]
        )
        advised = re.search(r"Set dataset\.groups='(.+)', so that", said[0])[1]
        assert advised == groups
        parameters = parameters.model_copy(update={"groups": advised})
        caplog.clear()
        table = split_images(validate_images(open_image_set(parameters)), parameters, 0)
        assert (table[table["label"] == 0].groupby("group")["split"].nunique() == 1).all()
        assert not any("Films" in record.getMessage() for record in caplog.records)


def test_an_alpha_of_0_everywhere_is_left_out_and_said(tmp_path, caplog):
    colours = {}
    for number in range(6):
        rgb = photograph(tmp_path / f"good/{number}.png", number)
        colours[f"good/{number}.png"] = rgb
        Image.fromarray(np.dstack([rgb, np.zeros(SHAPE, np.uint8)])).save(tmp_path / f"good/{number}.png")
    with caplog.at_level(logging.WARNING, logger="kdad"):
        table_of_set(tmp_path)
    assert "6 files have an alpha of 0 everywhere, which is left out: good/" in caplog.text
    images = open_set(tmp_path, image_size=list(SHAPE))
    for row, sample in enumerate(images.samples):
        np.testing.assert_allclose(images.image(row), colours[sample.id].transpose(2, 0, 1) / 255, atol=1e-6)


def test_training_images_of_one_value_end_the_run(tmp_path):
    for number in range(6):
        write(tmp_path / f"good/{number}.png", 255)
    with pytest.raises(InputError, match=r"hold nearly everywhere the one value 255, so that nothing can be learnt"):
        table_of_set(tmp_path)


def test_jpegs_with_a_zeroed_or_a_missing_piece_are_named(tmp_path, caplog):
    for number in range(8):
        photograph(tmp_path / f"good/{number}.jpg", number, (64, 64))
    whole = (tmp_path / "good/0.jpg").read_bytes()
    middle = len(whole) // 2
    zeroed = whole[:middle] + bytes(512) + whole[middle + 512 :]
    (tmp_path / "good/0.jpg").write_bytes(zeroed)
    (tmp_path / "good/1.jpg").write_bytes(whole[:middle] + whole[middle + 700 :])
    with caplog.at_level(logging.WARNING, logger="kdad"):
        table_of_set(tmp_path)
    (said,) = (record.getMessage() for record in caplog.records if "look damaged" in record.getMessage())
    assert said.startswith("Files: 2 files are JPEGs that look damaged")
    assert "good/0.jpg (a piece of zeros)" in said
    assert "good/1.jpg (a piece that is missing at the end)" in said


def test_sound_jpegs_of_any_kind_are_not_called_damaged(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    noise[50:] = 0
    for number, (pixels, options) in enumerate(
        (pixels, options)
        for pixels in (noise, np.zeros_like(noise), np.full_like(noise, 128), noise[..., 0])
        for options in ({}, {"optimize": True}, {"progressive": True}, {"quality": 100, "subsampling": 0})
    ):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(pixels).save(path, **options)
        assert find_damage(path.read_bytes(), np.asarray(Image.open(path).convert("RGB"))) == ""


def test_a_split_is_made_of_what_is_left(tmp_path):
    write_all(tmp_path, *numbered("good", 8), *numbered("bad", 2), *numbered("draft", 2))
    parameters = DatasetParameters(name="folder", root=str(tmp_path), image_size=16, layout={"ignore": ["draft"]})
    table = split_images(table_of_set(tmp_path, layout={"ignore": ["draft"]}), parameters, 0)
    assert not table["id"].str.startswith("draft").any()


# --- Images that belong together.


def film(base, name, count, seed, ending="good"):
    """Write frames of a film, which differ by a little noise alone."""
    generator = np.random.default_rng(seed)
    still = generator.integers(40, 200, (*SHAPE, 3))
    for number in range(count):
        path = base / ending / name / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = np.clip(still + generator.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
        Image.fromarray(frame).save(path)


def test_films_by_folder_have_no_frame_in_two_parts(tmp_path, caplog):
    for number in range(6):
        film(tmp_path, f"v{number:02d}", 10, number, "train/good")
    film(tmp_path, "v20", 3, 20, "test/good")
    film(tmp_path, "v21", 3, 21, "test/spot")
    images = open_set(tmp_path, groups="folder")
    table = split_images(validate_images(images), DatasetParameters(**BLOCK, groups="folder"), 0)
    assert (table.groupby("group")["split"].nunique() == 1).all()
    held_out = table[table["split"] == "validation"]
    assert (len(held_out), held_out["group"].nunique()) == (30, 3)
    grey = np.stack([images.image(row).mean(0) for row in range(len(images.samples))])
    assert say_films(table, grey) == []
    alone = split_images(validate_images(open_set(tmp_path)), DatasetParameters(**BLOCK), 0)
    (said,) = say_films(alone, grey)
    assert said.endswith("say which images belong together by dataset.groups, so that whole films are held out")
    assert "Groups" not in caplog.text


def test_a_group_that_the_set_itself_tears_is_a_warning(tmp_path, caplog):
    for part in ("train/good", "test/good", "test/spot"):
        for name in ("a_0", "a_1", f"{part[-4:]}_2", f"{part[-4:]}_3"):
            photograph(tmp_path / part / f"{name}.png", zlib.crc32(f"{part}{name}".encode()))
    for number in range(3):
        photograph(tmp_path / f"train/good/c_{number}.png", 50 + number)
    pattern = "^([a-z]+)_"
    with caplog.at_level(logging.WARNING, logger="kdad"):
        split_images(validate_images(open_set(tmp_path, groups=pattern)), DatasetParameters(**BLOCK, groups=pattern), 0)
    (said,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("Groups"))
    assert said.startswith("Groups: 2 of 4 have images in two parts (")


def test_names_without_a_group_and_patterns_that_are_none(tmp_path):
    write_all(tmp_path, *numbered("good", 4), "good/other.png")
    with pytest.raises(InputError) as said:
        check_images(open_set(tmp_path, groups="^([0-9])"))
    assert f"{tmp_path / 'good/other.png'}: its name has no group by dataset.groups '^([0-9])'" in str(said.value)
    for groups, problem in (
        ("film", "neither folder nor a pattern"),
        ("(a)(b)", "has 2 parts in parentheses"),
        ("(a", "is no regular expression"),
    ):
        with pytest.raises(ValidationError, match=problem):
            DatasetParameters(**BLOCK, groups=groups)
    with pytest.raises(ValidationError, match="max_train_images counts single images"):
        DatasetParameters(**BLOCK, groups="folder", max_train_images=3)
