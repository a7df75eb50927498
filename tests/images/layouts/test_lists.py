"""Sets that a list describes: CSV of one's own, VisA's, Real-IAD's."""

import json
from pathlib import Path

import pytest

from kdad.errors import InputError
from kdad.images.checks import check_images
from layout_trees import counted, masked, numbered, open_set, write_all, write_mask


def write_list(base, *rows, head="path,label,mask,split"):
    base.mkdir(parents=True, exist_ok=True)
    (base / "list.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return base / "list.csv"


def described(images):
    return [(s.id, s.label, s.kind, s.subset, s.has_mask) for s in images.samples]


def test_a_list_says_everything(tmp_path):
    write_all(tmp_path, "a.png", "b.png", "c.png", 'deep/d, "x".png', "e.png", "spare.png")
    write_mask(tmp_path / "masks/e.png")
    file = write_list(
        tmp_path, "a.png,0,,train", "b.png,good,,train", "c.png,OK,,val", '"deep/d, ""x"".png",0,,test',
        "e.png,torn,masks/e.png,test",
    )  # fmt: skip
    images = open_set(file, name="csv")
    check_images(images)
    assert described(images) == [
        ("a.png", 0, "good", "train", False),
        ("b.png", 0, "good", "train", False),
        ("c.png", 0, "good", "validation", False),
        ('deep/d, "x".png', 0, "good", "test", False),
        ("e.png", 1, "torn", "test", True),
    ]
    assert images.category == "list"
    assert dict(images.remarks())["not used"].startswith("1 x not in the list, such as spare.png")


def images_first(images):
    """Return the title of the first remark."""
    return images.remarks()[0][0]


def test_without_masks_and_parts_normal_images_train_and_a_fifth_is_kept(tmp_path):
    write_all(tmp_path, *numbered("x", 11))
    rows = [f"x/{number:03d}.png;{int(number == 10)}" for number in range(11)]
    images = open_set(write_list(tmp_path, *rows, head="Image;Label"), name="csv")
    check_images(images)
    assert counted(images) == {("train", "good"): 8, ("test", "good"): 2, ("test", "anomaly"): 1}


def test_several_masks_of_an_image_stand_in_one_cell(tmp_path):
    write_all(tmp_path, "a.png", "b.png", "c.png", "e.png")
    write_mask(tmp_path / "m/1.png", slice(0, 1))
    write_mask(tmp_path / "m/2.png", slice(5, 7))
    file = write_list(tmp_path, "a.png,0,,", "b.png,0,,", "c.png,0,,", "e.png,1,m/1.png;m/2.png,")
    images = open_set(file, name="csv")
    assert images.own_mask(3).sum() == 3 * 5


def test_one_category_of_several(tmp_path, monkeypatch):
    write_all(tmp_path, *numbered("x", 9))
    write_mask(tmp_path / "masks/007.png", slice(0, 1))
    rows = [f"x/{number:03d}.png,0,{'nut' if number < 5 else '003'}," for number in range(7)]
    file = write_list(tmp_path, *rows, "x\\007.png,1,003,masks/007.png", head="path,label,category,mask")
    read, whole = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or whole(path))
    images = open_set(file, "nut", name="csv")
    assert read == [file]
    assert (len(images.samples), images.category) == (5, "nut")
    # What other categories name is no loss, and said after what nobody names.
    not_used = dict(images.remarks())["not used"]
    assert not_used == (
        "1 x not in the list, such as x/008.png; 4 x of another category of the list, such as masks/007.png"
    )
    (tmp_path / "x/008.png").unlink()
    assert images_first(open_set(file, "nut", name="csv")) == "layout"
    assert len(open_set(file, "003", name="csv").samples) == 3
    with pytest.raises(InputError, match=r"lists 2 categories; set dataset\.category to one: 003, nut"):
        open_set(file, name="csv")
    with pytest.raises(InputError, match=r"has no category 'nud'; did you mean 'nut'\?"):
        open_set(file, "nud", name="csv")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("../secret.png,0,,", r"the path '\.\./secret\.png' leads out of"),
        ("/etc/secret.png,0,,", "the path '/etc/secret.png' leads out of"),
        ("gone.png,0,,", "the path 'gone.png' is no file"),
        ("notes.txt,0,,", "the path 'notes.txt' is no image by its ending"),
        (",0,,", "the path is empty"),
        ("d.png,2,,", "has the label '2'; write 0 or good for normal images"),
        ("d.png,,,", "has no label; write 0 or good"),
        ("d.png,0,,tran", "the split 'tran' is no part; write train, validation or test"),
        ("d.png,torn,,train", "d.png is anomalous and in the part train; only normal images train: say test"),
        ("d.png,torn,../m.png,test", r"the mask '\.\./m\.png' leads out of"),
        ("a.png,0,,", "names a.png again, as .*list.csv, line 2 does"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_line(tmp_path, row, problem):
    base = tmp_path / "set"
    write_all(base, "a.png", "b.png", "c.png", "d.png")
    write_all(tmp_path, "secret.png", "m.png")
    (base / "notes.txt").touch()
    file = write_list(base, "a.png,0,,", "b.png,0,,", "c.png,0,,", row)
    with pytest.raises(InputError, match=rf"list\.csv, line 5: {problem}"):
        check_images(open_set(file, name="csv"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no column 'path'"),
        (b"pth,label\na.png,0\n", "has no column 'path'; did you mean 'pth'"),
        (b"path,image,label\na.png,b.png,0\n", "has two columns of the path, 'path' and 'image'"),
        (b"path,label\n", "lists no images"),
        (b"path,label\na.png,0,1\n", "line 2: has 3 cells, and the first line 2"),
        (b"path,label\n\xe9.png,0\n", "is not UTF-8"),
        (b'path,label\n"a.png,0\n', "cannot be read as CSV"),
        (
            b"path,label\na.png,torn\nb.png,worn\n",
            r"no row is of a normal image; the labels are torn \(1\), worn \(1\)",
        ),
    ],
)
def test_a_file_that_is_no_list(tmp_path, content, problem):
    write_all(tmp_path, "a.png", "b.png")
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(InputError, match=problem):
        check_images(open_set(tmp_path / "list.csv", name="csv"))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.root: there is no file .*gone\.csv"):
        open_set(tmp_path / "gone.csv", name="csv")


def test_visa_by_its_split(tmp_path):
    base = tmp_path / "candle/Data"
    write_all(base, *numbered("Images/Normal", 6, ".JPG"), *numbered("Images/Anomaly", 2, ".JPG"))
    write_mask(base / "Masks/Anomaly/000.png", value=1)
    split = tmp_path / "split_csv/1cls.csv"
    split.parent.mkdir()
    rows = [f"candle,{'train' if n < 4 else 'test'},normal,candle/Data/Images/Normal/{n:03d}.JPG," for n in range(6)]
    rows.append("candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png")
    rows.append("cashew,train,normal,cashew/Data/Images/Normal/000.JPG,")
    split.write_text("\n".join(["object,split,label,image,mask", *rows]))
    images = open_set(tmp_path, "candle")
    check_images(images)
    assert counted(images) == {("train", "good"): 4, ("test", "good"): 2, ("test", "anomaly"): 1}
    assert masked(images) == ["Data/Images/Anomaly/000.JPG"]
    assert images.own_mask(4 if images.samples[4].label else 6).sum() == 4 * 5
    assert "(VisA)" in dict(images.remarks())["layout"]


def write_real_iad(root, folder="realiad_256"):
    base = root / folder / "jack"
    write_all(base, *(f"OK/S{number}/jack_{number}.jpg" for number in range(4)), "NG/BX/S9/jack_9.jpg")
    write_mask(base / "NG/BX/S9/jack_9.png")

    def image(kind, path, mask=None):
        return {"category": "jack", "anomaly_class": kind, "image_path": path, "mask_path": mask}

    train = [image("OK", f"OK/S{number}/jack_{number}.jpg") for number in range(3)]
    test = [image("OK", "OK/S3/jack_3.jpg"), image("BX", "NG/BX/S9/jack_9.jpg", "NG/BX/S9/jack_9.png")]
    listed = {"meta": {"normal_class": "OK", "prefix": "jack/"}, "train": train, "test": test}
    file = root / "realiad_jsons/realiad_jsons/jack.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(listed))
    return root / folder


def test_real_iad(tmp_path):
    images = open_set(write_real_iad(tmp_path), "jack")
    check_images(images)
    assert counted(images) == {("train", "good"): 3, ("test", "good"): 1, ("test", "BX"): 1}
    assert masked(images) == ["NG/BX/S9/jack_9.jpg"]
    assert "(Real-IAD)" in dict(images.remarks())["layout"]


def test_a_json_that_is_no_list_of_real_iad(tmp_path):
    root = write_real_iad(tmp_path)
    file = tmp_path / "realiad_jsons/realiad_jsons/jack.json"
    for content, problem in (("[1", "cannot be read as JSON"), ('{"meta": {}}', "is no list of Real-IAD")):
        file.write_text(content)
        with pytest.raises(InputError, match=problem):
            open_set(root, "jack")


def test_another_json_of_the_folders_name_is_not_used(tmp_path):
    write_all(tmp_path / "nut", *numbered("good", 4))
    for content in ('{"images": []}', "{", "[]"):
        (tmp_path / "nut/nut.json").write_text(content)
        assert len(open_set(tmp_path, "nut").samples) == 4


def test_real_iad_with_its_list_beside_the_images(tmp_path):
    root = write_real_iad(tmp_path)
    (tmp_path / "realiad_jsons/realiad_jsons/jack.json").rename(root / "jack.json")
    assert len(open_set(root, "jack").samples) == 5


def groups_of(images) -> dict[str, str | None]:
    return {sample.id: sample.group for sample in images.samples}


def test_a_column_says_which_images_belong_together(tmp_path):
    names = numbered("x", 6)
    write_all(tmp_path, *names)
    for title in ("film", "set", "Serie 1"):  # a title that usually says the split, too
        rows = [f"{name},0,{number // 2:03d}" for number, name in enumerate(names)]
        file = write_list(tmp_path, *rows, head=f"path,label,{title}")
        images = open_set(file, name="csv", groups=title)
        assert groups_of(images) == {name: f"{number // 2:03d}" for number, name in enumerate(names)}
        said = dict(images.remarks())
        assert said["note"].startswith("the test has no normal images, so 2 of the training images are kept")
        assert not any("not known" in text for text in said.values())
        kept = {sample.group for sample in images.samples if sample.subset == "test"}
        assert len(kept) == 1  # of three groups one whole
    with pytest.raises(InputError, match=r"list\.csv: has 0 columns 'flim' \(dataset\.groups\); did you mean 'film'"):
        open_set(write_list(tmp_path, *rows, head="path,label,film"), name="csv", groups="flim")


def test_a_blank_in_a_group_column_is_named_with_its_line(tmp_path):
    names = numbered("x", 4)
    write_all(tmp_path, *names)
    rows = [f"{name},0,{film}" for name, film in zip(names, ("a", "b", " ", "c"), strict=True)]
    file = write_list(tmp_path, *rows, head="path,label,film")
    with pytest.raises(InputError) as said:
        check_images(open_set(file, name="csv", groups="film"))
    _, problem = str(said.value).splitlines()
    assert problem == f"  {file}, line 4: says no group in the column of dataset.groups; write one in each row"


def test_folders_and_patterns_of_names_say_groups_in_lists_too(tmp_path):
    names = [f"{camera}/v{film}_{number}.png" for camera in "ab" for film in (1, 2) for number in range(2)]
    write_all(tmp_path, *names)
    file = write_list(tmp_path, *(f"{name},0" for name in names), head="path,label")
    assert groups_of(open_set(file, name="csv", groups="folder")) == {name: name[0] for name in names}
    assert groups_of(open_set(file, name="csv", groups="^(v[0-9]+)_")) == {name: name[2:4] for name in names}


def test_a_column_names_masks_of_ignored_pixels(tmp_path):
    names = numbered("x", 6)
    write_all(tmp_path, *names)
    for name, rows in (("a.png", slice(10, 20)), ("b.png", slice(0, 4)), ("bad.png", slice(2, 18))):
        write_mask(tmp_path / "masks" / name, rows)
    cells = ["", "", "masks/a.png", "", "", "masks/a.png"]
    rows = [f"{name},{int(name == names[5])},{cell}" for name, cell in zip(names, cells, strict=True)]
    rows[5] += ",masks/bad.png"
    file = write_list(tmp_path, *(row + "," * (row != rows[5]) for row in rows), head="path,label,Ignore,mask")
    images = open_set(file, name="csv", image_size=[20, 30])
    check_images(images)
    ignored = {sample.id: images.ignored(row) for row, sample in enumerate(images.samples)}
    assert {name for name, mask in ignored.items() if mask is not None} == {names[2], names[5]}
    assert ignored[names[2]].sum() == 10 * 5
    bad = next(row for row, sample in enumerate(images.samples) if sample.label)
    assert images.mask(bad).sum() == 8 * 5  # of rows 2 to 17 the first eight
    assert dict(images.remarks())["not used"] == "1 x not in the list, such as masks/b.png"
    wrong = write_list(tmp_path, *(f"{name},0,{int(name == names[3])}" for name in names), head="path,label,ignore")
    with pytest.raises(InputError, match=r"list\.csv, line 2: the mask of ignored pixels '0' is no file below"):
        check_images(open_set(wrong, name="csv"))
    # One of an image of another category is no file that the list does not name.
    rows = [*(f"{name},0,a," for name in names[:5]), f"{names[5]},0,b,masks/b.png"]
    images = open_set(
        write_list(tmp_path, *rows, head="path,label,category,ignore"), name="csv", category="a",
        layout={"ignore": ["a.png", "bad.png"]},
    )  # fmt: skip
    assert "2 x of another category of the list" in dict(images.remarks())["not used"]
