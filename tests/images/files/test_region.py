"""The region that counts of all images: how it is kept, and what is said of images of another size."""

import json

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.fitting import Preparation, Region, read_region
from kdad.parameters.dataset import DatasetParameters
from layout_trees import SHAPE, masked, numbered, open_set, write, write_all, write_mask


def upper(rows: int, shape=SHAPE) -> np.ndarray:
    """Return a mask whose upper rows count."""
    return np.indices(shape)[0] < rows


def write_region(path, rows: int = 12, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(upper(rows, shape).astype(np.uint8) * 255).save(path)
    return str(path)


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64), (300, 211)])
def test_a_region_is_what_it_was_made_of_also_as_json(shape):
    mask = np.random.default_rng(0).random(shape) < 0.7
    mask[0, 0] = True
    region = Region.of(mask)
    np.testing.assert_array_equal(region.mask, mask)
    again = Region.model_validate_json(region.model_dump_json())
    assert again == region
    np.testing.assert_array_equal(again.mask, mask)
    assert region.share() == mask.mean()


def test_a_region_that_was_changed_is_refused():
    known = Region.of(upper(12)).model_dump()
    for changed in ({"height": 200}, {"packed": known["packed"][:-8]}, {"packed": "ß"}, {"packed": "AAAA"}):
        with pytest.raises(ValidationError, match=r"its text (cannot be read|has \d+ bytes)"):
            Region.model_validate(known | changed)


def test_pixels_outside_are_one_grey_before_anything_is_resized():
    region = Region.of(upper(8, (16, 16)))
    image = np.random.default_rng(1).random((3, 16, 16)).astype(np.float32)
    other = image.copy()
    other[:, 8:] = 0
    for fit in ("resize", "letterbox", "centre_crop"):
        prepared = Preparation(fit, region=region)
        for size in ((16, 16), (5, 5), (9, 12), (40, 32)):
            np.testing.assert_array_equal(prepared.placed(image, size)[0], prepared.placed(other, size)[0])
            assert prepared.region_at(size).shape == size
    np.testing.assert_array_equal(prepared.placed(image, (16, 16))[0][:, :8], image[:, :8])
    assert (prepared.placed(image, (16, 16))[0][:, 8:] == 0.5).all()
    with pytest.raises(InputError, match="the image is 16 x 17, and the region that counts 16 x 16"):
        prepared.placed(np.zeros((3, 16, 17), np.float32), (8, 8))


def test_images_of_another_size_are_one_message(tmp_path):
    write_all(tmp_path, *numbered("good", 6))
    for number in (7, 8):
        write(tmp_path / f"good/{number:03d}.png", number, (10, 10))
    region = write_region(tmp_path / "roi.png")
    with pytest.raises(InputError) as said:
        check_images(open_set(tmp_path, region=region))
    _, problem = str(said.value).splitlines()
    assert problem == (
        f"  dataset.region: 2 of 8 images are of another size, the first: {tmp_path / 'good/007.png'} is 10 x 10, and "
        "the region that counts 20 x 30 (height x width); give a region of the images' size, and images of one size"
    )


def test_a_region_that_is_not_there_or_marks_nothing(tmp_path):
    write_all(tmp_path, *numbered("good", 6))
    with pytest.raises(InputError, match=r"dataset\.region: there is no file .*gone\.png"):
        open_set(tmp_path, region=str(tmp_path / "gone.png"))
    with pytest.raises(InputError, match=r"roi\.png: marks nothing, so that no pixel would count"):
        open_set(tmp_path, region=write_region(tmp_path / "roi.png", 0))
    with pytest.raises(InputError, match=r"text\.png: cannot be read as an image"):
        (tmp_path / "text.png").write_text("no image")
        read_region(tmp_path / "text.png")
    block = {"name": "folder", "root": "x", "image_size": 16, "region": "roi.png"}
    with pytest.raises(ValidationError, match="drawn defects may lie outside"):
        DatasetParameters(**block, contamination=0.1)


def test_a_region_in_the_sets_folder_is_no_image_and_masks_end_at_it(tmp_path):
    write_all(tmp_path, *numbered("train/good", 6), *numbered("test/good", 3), *numbered("test/bad", 2))
    write_mask(tmp_path / "ground_truth/bad/000_mask.png", slice(8, 18))
    write_mask(tmp_path / "ground_truth/bad/001_mask.png", slice(14, 18))
    images = open_set(tmp_path, region=write_region(tmp_path / "roi_mask.png"), image_size=list(SHAPE))
    check_images(images)
    assert len(images.samples) == 11
    assert len(masked(images)) == 2
    rows = [row for row, sample in enumerate(images.samples) if sample.has_mask]
    first, second = (images.mask(row) for row in rows)
    assert first[8:12, 3:8].all()
    assert first.sum() == 4 * 5
    assert not second.any()
    said = dict(images.remarks())
    assert said["not used"] == "1 x the region, such as roi_mask.png"
    assert said["region"] == (
        f"60.0% of the 20 x 30 pixels count, by {tmp_path / 'roi_mask.png'}; 1 masks mark nothing in it, so that these "
        "images look normal"
    )
    alone = write_all(tmp_path / "flat", *numbered(".", 5))
    assert len(open_set(alone, region=write_region(alone / "roi.png")).samples) == 5


def test_an_outline_is_drawn_at_the_images_size(tmp_path):
    write_all(tmp_path / "set", *numbered("good", 6))
    corners = [[2, 4], [12, 4], [12, 10], [2, 10]]
    expected = np.zeros(SHAPE, dtype=bool)
    expected[4:10, 2:12] = True
    shape = {"label": "counts", "points": corners, "shape_type": "polygon"}
    labelme = {"version": "5", "imageHeight": SHAPE[0], "imageWidth": SHAPE[1], "imagePath": "x.png", "shapes": [shape]}
    (tmp_path / "points.json").write_text(json.dumps(corners))
    (tmp_path / "set/roi.json").write_text(json.dumps(labelme))  # in the set's folder it annotates no image
    (tmp_path / "unsized.json").write_text(json.dumps({"version": "5", "shapes": [shape]}))
    for region in (corners, *(str(tmp_path / name) for name in ("points.json", "set/roi.json", "unsized.json"))):
        images = open_set(
            tmp_path / "set", region=region, layout={"ignore": [] if "set" in str(region) else ["*.json"]}
        )
        np.testing.assert_array_equal(images.preparation.region.mask, expected)
        assert not images.problems()
    assert dict(open_set(tmp_path / "set", region=corners, layout={"ignore": ["*.json"]}).remarks())["region"] == (
        "10.0% of the 20 x 30 pixels count, by dataset.region"
    )


def test_an_outline_that_cannot_be_used_is_one_message(tmp_path):
    write_all(tmp_path / "set", *numbered("good", 6))
    path = tmp_path / "roi.json"
    labelme = {"version": "5", "imagePath": "x.png"}
    square = {"label": "counts", "points": [[2, 4], [12, 4], [12, 10]]}
    for content, problem in (
        (
            [[0, 0], [40, 0], [9, 9]],
            "reaches from x 0, y 0 to x 40, y 9, beyond its image, which is 30 wide and 20 high",
        ),
        ([[0, 0], [9, 9]], "has 4 numbers; an outline has x and y of three points at least"),
        ([[0, 0], [9, 9], [18, 18]], "has no area, since its points lie on a line"),
        ([[0, 0], [9, "a"], [18, 1]], "has the coordinate 'a', which is no number"),
        ([[0, 0, 1]], "is no outline: neither of LabelMe nor points"),
        ({"points": []}, "is no outline: neither of LabelMe nor points"),
        ({**labelme, "shapes": []}, "draws no region"),
        ({**labelme, "shapes": [square | {"shape_type": "line"}]}, "shape 1: is a line of 3 points, which covers no"),
        ({**labelme, "shapes": [square], "imageHeight": 40, "imageWidth": 60}, "the region that counts 40 x 60"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError) as said:
            check_images(open_set(tmp_path / "set", region=str(path)))
        assert problem in str(said.value)
    path.write_text("{")
    with pytest.raises(InputError, match=r"roi\.json: cannot be read as JSON"):
        open_set(tmp_path / "set", region=str(path))
    with pytest.raises(InputError, match=r"^dataset\.region: reaches from x -9"):
        open_set(tmp_path / "set", region=[[-9, 0], [9, 0], [9, 9]])
