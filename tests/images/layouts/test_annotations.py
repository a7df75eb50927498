"""Annotation formats: masks equal to hand-drawn ones to the pixel, and each mistake named with file and object."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.annotation_files import _runs_of_text, box
from layout_trees import SHAPE, counted, masked, numbered, open_set, write_all

#: Rows 2 to 5 and columns 3 to 7; and a triangle of the points (x, y) = (10, 4), (14, 4), (10, 8).
BOX = np.zeros(SHAPE, dtype=bool)
BOX[2:6, 3:8] = True
TRIANGLE = np.zeros(SHAPE, dtype=bool)
for row, count in ((4, 4), (5, 3), (6, 2), (7, 1)):  # centres on the long side count
    TRIANGLE[row, 10 : 10 + count] = True
CORNERS = [[10, 4], [14, 4], [10, 8]]
FLAT = [10, 4, 14, 4, 10, 8]


def mask_of(images, name):
    (row,) = (row for row, sample in enumerate(images.samples) if sample.id.endswith(name))
    return images.own_mask(row)


def voc(*objects, size=SHAPE, name="x.png"):
    """Return Pascal VOC: objects are a name and xmin, ymin, xmax, ymax."""
    boxes = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for kind, a, b, c, d in objects
    )
    size = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{boxes}</annotation>"


def labelme(*shapes, size=SHAPE, name="x.png"):
    """Return LabelMe's JSON: shapes are a type and points, and what else."""
    drawn = [{"label": "dent", "shape_type": kind, "points": points} | more for kind, points, *(more,) in shapes]
    return json.dumps(
        {"version": "5", "shapes": drawn, "imagePath": name, "imageHeight": size[0], "imageWidth": size[1]}
    )


def coco(images, annotations, categories=({"id": 1, "name": "dent"}, {"id": 2, "name": "ok"})):
    """Return COCO's JSON: images are names, numbered from 1, annotations get ids from 11."""
    listed = [
        {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        for number, name in enumerate(images, 1)
    ]
    drawn = [{"id": 11 + number, "image_id": 1, "category_id": 1} | more for number, more in enumerate(annotations)]
    return json.dumps({"images": listed, "annotations": drawn, "categories": list(categories)})


def runs_of(mask):
    """Return COCO's run lengths of a mask, counted one by one, column by column."""
    runs, value = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def text_of(runs):
    """Encode run lengths as COCO's text, by its description: 5 bits a letter, the sixth says that more follow."""
    said = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            said += chr(bits + 32 * more + 48)
            if not more:
                break
    return said


@pytest.fixture
def base(tmp_path):
    """Four images to train on, one good and two bad ones to test."""
    write_all(tmp_path, *numbered("train/good", 4), "test/good/g.png", "test/bad/a.png", "test/bad/b.png")
    return tmp_path


def test_pascal_voc_beside_images_and_in_a_folder_of_its_own(base):
    (base / "test/bad/a.xml").write_text(voc(("dent", 4, 3, 8, 6)))  # from 1, both ends within
    (base / "Annotations").mkdir()
    (base / "Annotations/b.xml").write_text(voc(("dent", 4, 3, 8, 6), ("ok", 1, 1, 30, 20)))
    images = open_set(base)
    check_images(images)
    assert masked(images) == ["test/bad/a.png", "test/bad/b.png"]
    for name in ("a.png", "b.png"):  # what is called ok marks nothing
        np.testing.assert_array_equal(mask_of(images, name), BOX)
    assert ("note", "annotations that were read: 2 Pascal VOC") in images.remarks()


def test_labelme_draws_polygons_rectangles_circles_and_masks(base):
    buffer = io.BytesIO()
    Image.fromarray(TRIANGLE[4:8, 10:14]).save(buffer, "PNG")
    encoded = {"mask": base64.b64encode(buffer.getvalue()).decode()}
    circle = (np.arange(SHAPE[0])[:, None] + 0.5 - 10) ** 2 + (np.arange(SHAPE[1]) + 0.5 - 20) ** 2 <= 9
    for shape, expected in (
        (("polygon", CORNERS, {}), TRIANGLE),
        (("rectangle", [[8, 6], [3, 2]], {}), BOX),
        (("circle", [[20, 10], [23, 10]], {}), circle),
        (("mask", [[10, 4], [13, 7]], encoded), TRIANGLE),
    ):
        (base / "test/bad/a.json").write_text(labelme(shape))
        images = open_set(base)
        check_images(images)
        np.testing.assert_array_equal(mask_of(images, "a.png"), expected)


def test_coco_draws_polygons_boxes_and_runs(base):
    rectangle = [3, 2, 8, 2, 8, 6, 3, 6]
    for drawn, expected in (
        ({"bbox": [3, 2, 5, 4]}, BOX),
        ({"segmentation": [FLAT], "bbox": [10, 4, 4, 4]}, TRIANGLE),
        ({"segmentation": [FLAT, rectangle]}, TRIANGLE | BOX),
        ({"segmentation": {"size": list(SHAPE), "counts": runs_of(TRIANGLE | BOX)}, "iscrowd": 1}, TRIANGLE | BOX),
        ({"segmentation": {"size": list(SHAPE), "counts": text_of(runs_of(TRIANGLE | BOX))}}, TRIANGLE | BOX),
    ):
        everywhere = {"bbox": [0, 0, 30, 20], "category_id": 2}  # ok, so it marks nothing
        (base / "annotations.json").write_text(coco(["test/bad/b.png", "test/good/g.png"], [drawn, everywhere]))
        images = open_set(base)
        check_images(images)
        assert masked(images) == ["test/bad/b.png"]
        np.testing.assert_array_equal(mask_of(images, "b.png"), expected)


def test_the_text_of_coco_by_hand():
    """Letters are 48 and up: 40 is 8 and more, then 1; 30 is 30 and more, then 0; 2 after 5 is -3, 29 of 5 bits."""
    letters = [8 + 32, 1, 5, 30 + 32, 0, 29]
    text = "".join(chr(48 + letter) for letter in letters)
    assert text == text_of([40, 5, 30, 2])
    assert _runs_of_text(text) == [40, 5, 30, 2]


def test_yolo_in_both_of_its_layouts(tmp_path):
    box = f"0 {5.5 / 30} {4 / 20} {5 / 30} {4 / 20}\n"
    triangle = "1 " + " ".join(f"{x / 30} {y / 20}" for x, y in CORNERS)
    for images_of, labels_of in (("{}/images", "{}/labels"), ("images/{}", "labels/{}")):
        base = tmp_path / labels_of.replace("{}", "part").replace("/", "_")
        write_all(base, *numbered(images_of.format("train"), 4), *numbered(images_of.format("test"), 3))
        for name, text in (("train/003", box), ("test/001", ""), ("test/002", box + triangle)):
            part, stem = name.split("/")
            file = base / labels_of.format(part) / f"{stem}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (base / "data.yaml").write_text("names: {0: dent, 1: hole}\ntrain: images/train\n")
        images = open_set(base)
        check_images(images)
        # An image without a file, or with an empty one, has no defect; the anomalous training image is not used.
        assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "dent+hole"): 1}
        np.testing.assert_array_equal(mask_of(images, f"{images_of.format('test')}/002.png"), BOX | TRIANGLE)
        assert dict(images.remarks())["not used"].startswith("1 x an anomalous image of the part train")
        assert images.remarks()[0][0] == "not used"  # what may matter is said first


def test_a_set_of_pascal_voc_is_labelled_and_parted_by_it(tmp_path):
    write_all(tmp_path, *numbered("JPEGImages", 7, ".jpg"))
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for number in range(6):
        objects = [("dent", 4, 3, 8, 6)] if number in (3, 5) else []
        (tmp_path / f"Annotations/{number:03d}.xml").write_text(voc(*objects))
    (tmp_path / "ImageSets/Main/train.txt").write_text("000\n001\n002\n003\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("004\n005\n006\n")
    with pytest.raises(InputError, match=r"006\.jpg: has no mask or annotation, as 0 more of 7.*\['JPEGImages'\]"):
        open_set(tmp_path)
    images = open_set(tmp_path, layout={"normal": ["JPEGImages"]})
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "dent"): 1}
    np.testing.assert_array_equal(mask_of(images, "005.jpg"), BOX)


def test_parts_by_the_names_of_coco_files(tmp_path):
    write_all(tmp_path, *numbered("images", 6))
    (tmp_path / "instances_train2017.json").write_text(coco(["000.png", "001.png", "002.png"], []))
    (tmp_path / "instances_test2017.json").write_text(coco(["005.png", "003.png", "004.png"], [{"bbox": [3, 2, 5, 4]}]))
    images = open_set(tmp_path)
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "dent"): 1}
    np.testing.assert_array_equal(mask_of(images, "005.png"), BOX)


def test_dagm_2007_by_its_lists(tmp_path):
    base = tmp_path / "Class1"
    for part, defects in (("Train", (2,)), ("Test", (0, 1))):
        write_all(base, *numbered(part, 4, ".PNG"))
        (base / part / "Label").mkdir()
        lines = ["1"]
        for number in range(4):
            label = f"{number:03d}_label.PNG" if number in defects else "0"
            lines.append(f"{number + 1}\t{int(number in defects)}\t{number:03d}.PNG\t{int(number in defects)}\t{label}")
            if number in defects:
                Image.fromarray(BOX).save(base / part / "Label" / label)
        (base / part / "Label/Labels.txt").write_text("\n".join(lines))
    images = open_set(tmp_path, "Class1")
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 2, ("test", "anomaly"): 2}
    np.testing.assert_array_equal(mask_of(images, "Test/001.PNG"), BOX)
    (base / "Train/Label/Labels.txt").write_text("1\n1\tx\t000.PNG\t0\t0\n")
    with pytest.raises(InputError, match=r"Labels\.txt, line 2: is no line of DAGM's list"):
        open_set(tmp_path, "Class1")
    with pytest.raises(InputError, match=r"set dataset\.category to one of its folders: Class1"):
        open_set(tmp_path)


BAD_FILES = {
    # Pascal VOC
    "a.xml|<annotation>": r"a\.xml: cannot be read as XML",
    f"a.xml|{voc(('', 4, 3, 8, 6))}": r"a\.xml, object 1: has no name",
    "a.xml|<annotation><object><name>dent</name></object></annotation>": r"a\.xml, object 1: has no bndbox",
    f"a.xml|{voc(('dent', 4, 3, 'x', 6))}": r"a\.xml, object 1: has the coordinate 'x', which is no number",
    f"a.xml|{voc(('dent', 4, 3, 8, 6), ('dent', 9, 3, 8, 6))}": r"a\.xml, object 2: has no area",
    f"a.xml|{voc(('dent', 4, 3, 40, 6))}": r"object 1: reaches from x 3, y 2 to x 40, y 6, beyond its image",
    f"a.xml|{voc(('dent', 4, 3, 8, 6), size=(30, 20))}": r"a\.xml: says that x\.png is 30 x 20, and it is 20 x 30",
    f"zzz.xml|{voc()}": r"zzz\.xml: annotates 'x\.png', which is not there",
    # LabelMe
    "a.json|{": r"a\.json: cannot be read as JSON",
    'a.json|{"shapes": {}, "version": "5"}': r"a\.json: its shapes are no list",
    'a.json|{"shapes": [{"points": []}], "version": "5"}': r"shape 1: has no label or no points",
    f"a.json|{labelme(('polygon', [[1, 2, 3]], {}))}": r"shape 1: has a point that is no pair of x and y",
    f"a.json|{labelme(('polygon', CORNERS[:2], {}))}": r"shape 1: has 4 numbers; an outline has x and y of three",
    f"a.json|{labelme(('polygon', [[1, 1], [2, 2], [3, 3]], {}))}": r"shape 1: has no area, since its points lie on a",
    f"a.json|{labelme(('linestrip', CORNERS, {}))}": r"shape 1: is a linestrip of 3 points, which covers no area",
    f"a.json|{labelme(('circle', [[5, 5], [5, 5]], {}))}": r"shape 1: has no area: its radius is 0",
    f"a.json|{labelme(('polygon', [[-9, 1], [2, 2], [3, 1]], {}))}": r"shape 1: reaches from x -9, y 1 to x 3, y 2",
    f"a.json|{labelme(('mask', CORNERS[:2], {'mask': '!'}))}": r"shape 1: its mask cannot be read",
    # COCO
    f"c.json|{coco(['a.png'], [{'category_id': 7, 'bbox': [3, 2, 5, 4]}])}": r"annotation 11: has the category 7",
    f"c.json|{coco(['a.png'], [{'image_id': 9, 'bbox': [3, 2, 5, 4]}])}": r"annotation 11: belongs to no image",
    f"c.json|{coco(['a.png'], [{}])}": r"annotation 11: has neither a segmentation nor a bbox of four numbers",
    f"c.json|{coco(['a.png'], [{'bbox': [3, 2, 0, 4]}])}": r"annotation 11: has no area: it reaches from x 3, y 2",
    f"c.json|{coco(['a.png'], [{'segmentation': [[1, 2, 3, 4, 5]]}])}": r"annotation 11: has 5 numbers; an outline",
    f"c.json|{coco(['gone.png'], [])}": r"c\.json: annotates 'gone\.png', which is not there",
    'c.json|{"images": [{"id": 1}], "annotations": []}': r"c\.json, image 1: has no id or no file_name",
    "c.json|"
    + coco(["a.png"], [{"segmentation": {"size": [20, 30], "counts": [5, 5]}}]): r"has runs of 10 pixels together",
    "c.json|"
    + coco(["a.png"], [{"segmentation": {"size": [2, 5], "counts": [5, 5]}}]): r"is encoded for 2 x 5, and its image",
    "c.json|"
    + coco(
        ["a.png"], [{"segmentation": {"size": [20, 30], "counts": "o"}}]
    ): r"a run-length encoding that cannot be read",
    # YOLO
    "labels/a.txt|5 .5 .5 .1 .1": r"a\.txt, line 1: begins with '5', which is no class's number, and there are 2",
    "labels/a.txt|0 .5 .5 .1 .1\n0 .5 .5 .1": r"a\.txt, line 2: has 3 numbers after its class",
    "labels/a.txt|0 5 4 .1 .1": r"a\.txt, line 1: has 5, and numbers are shares of the image, 0 to 1",
    "labels/a.txt|0 .5 .5 0 .1": r"a\.txt, line 1: has no area",
    "labels/a.txt|0 .5 .5 nan .1": r"a\.txt, line 1: has the coordinate 'nan', which is no number",
    "data.yaml|names: 5": r"data\.yaml: its names of classes cannot be read",
}


def test_what_is_wrong_with_an_annotation_is_said_with_file_and_object(base):
    (base / "data.yaml").write_text("names: [dent, hole]")
    for case, message in BAD_FILES.items():
        name, content = case.split("|", 1)
        file = base / ("test/bad" if name[0] in "az" else "") / name
        before = file.read_text() if file.exists() else None
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            check_images(open_set(base))
        if before is None:
            file.unlink()
        else:
            file.write_text(before)


def test_several_wrong_annotations_are_in_one_message(base):
    (base / "test/bad/a.xml").write_text(voc(("dent", 9, 3, 8, 6)))
    (base / "test/bad/b.json").write_text(labelme(("point", [[1, 1]], {}), ("line", CORNERS[:2], {})))
    with pytest.raises(InputError) as caught:
        check_images(open_set(base))
    assert [line.split(": ")[0].rsplit("/")[-1] for line in str(caught.value).splitlines()[1:]] == [
        "a.xml, object 1",
        "b.json, shape 1",
        "b.json, shape 2",
    ]


def test_an_object_in_a_normal_image_contradicts(base):
    (base / "train/good/002.json").write_text(labelme(("polygon", CORNERS, {})))
    with pytest.raises(InputError, match=r"002\.json, shape 1: marks 'dent' in .*good/002\.png, which is normal by"):
        check_images(open_set(base))
    (base / "train/good/002.json").write_text(labelme())
    check_images(open_set(base))


def test_an_object_whose_name_is_nearly_normal_is_asked_about(base):
    (base / "test/bad/a.xml").write_text(voc(("ok_2", 4, 3, 8, 6)))
    with pytest.raises(InputError, match=r"a\.xml, object 1: is 'ok_2' a kind of defect, or of what is normal\?"):
        open_set(base)
    assert masked(open_set(base, layout={"anomalous": ["ok_2"]})) == ["test/bad/a.png"]


def test_an_annotation_of_two_images_is_named(base):
    write_all(base, "test/hole/a.png")
    (base / "annotations").mkdir()
    (base / "annotations/a.xml").write_text(voc(("dent", 4, 3, 8, 6)))
    with pytest.raises(InputError, match=r"annotations/a\.xml: may be of .*test/bad/a\.png or of .*test/hole/a\.png"):
        check_images(open_set(base))


def test_files_that_are_no_annotations_are_said_first(base):
    (base / "test/bad/a.json").write_text('{"exposure": 3}')
    (base / "test/bad/b.txt").write_text("exposure 3")
    images = open_set(base)
    check_images(images)
    assert images.remarks()[0][0] == "not used"
    assert "1 x not understood as an annotation (.json), such as test/bad/a.json" in images.remarks()[0][1]


def test_a_broken_file_that_may_be_of_anything_is_not_used(base):
    (base / "settings.json").write_text("{")
    check_images(open_set(base))
    (base / "instances.json").write_text("{")
    with pytest.raises(InputError, match=r"instances\.json: cannot be read as JSON"):
        check_images(open_set(base))


def test_a_shape_between_pixels_marks_one():
    expected = np.zeros((4, 4), dtype=bool)
    expected[1, 2] = True
    np.testing.assert_array_equal(box("here", "dent", 2.1, 1.1, 2.3, 1.2).draw((4, 4)), expected)
