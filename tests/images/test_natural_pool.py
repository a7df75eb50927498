"""Patches and triplets of natural images: ranges, where they are cut, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.errors import InputError
from kdad.images.natural_pool import NaturalPool


def _patches(pool, count, patch_size, generator):
    return pool.cut(pool.sample(count, generator), patch_size)


def _generator(seed=0):
    return np.random.default_rng(seed)


def _colours(folder, count=3, size=(96, 64)):
    """Images of one colour each, so that a patch tells where it comes from."""
    for index in range(count):
        Image.new("RGB", size, (40 * (index + 1), 80, 0)).save(folder / f"{index}.png")
    return folder


def _reds(patches: torch.Tensor) -> list[int]:
    """The folder's index of each patch of one colour; a grey patch is (red + 80) / 3 in every channel."""
    means = patches.mean(dim=(2, 3)) * 255
    grey = (means[:, 0] - means[:, 1]).abs() < 0.01
    grey &= (means[:, 1] - means[:, 2]).abs() < 0.01
    red = torch.where(grey, means[:, 0] * 3 - 80, means[:, 0])
    return (red / 40).round().int().sub(1).tolist()


@pytest.mark.parametrize("patch_size", [17, 33, 65])
def test_patches_of_the_embedded_photographs(patch_size):
    patches = _patches(NaturalPool(), 40, patch_size, _generator())
    assert patches.shape == (40, 3, patch_size, patch_size)
    assert patches.dtype == torch.float32
    assert patches.min() >= 0 and patches.max() <= 1
    assert patches.flatten(1).std(dim=1).median() > 0.02  # photographs, not blanks


def test_textures_that_are_test_images_are_not_in_the_pool():
    names = {path.stem for path in NaturalPool().paths}
    assert names.isdisjoint({"brick", "grass", "gravel"})


def test_one_generator_gives_one_draw():
    pool = NaturalPool()
    assert torch.equal(_patches(pool, 8, 17, _generator()), _patches(pool, 8, 17, _generator()))
    assert not torch.equal(_patches(pool, 8, 17, _generator()), _patches(pool, 8, 17, _generator(1)))


def test_a_tenth_of_the_patches_is_grey(tmp_path):
    patches = _patches(NaturalPool(str(_colours(tmp_path))), 1000, 17, _generator())
    spread = patches.mean(dim=(2, 3)).std(dim=1)
    # 1000 draws of 0.1: standard deviation 9.5
    assert 60 < (spread < 1e-4).sum() < 140


def test_every_image_of_the_folder_is_cut_from_at_any_depth(tmp_path):
    _colours(tmp_path, 2)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (64, 64), (120, 80, 0)).save(tmp_path / "deep" / "er" / "2.jpg", quality=100, subsampling=0)
    patches = _patches(NaturalPool(str(tmp_path)), 100, 17, _generator())
    assert set(_reds(patches)) == {0, 1, 2}


def test_negatives_come_from_another_image_and_positives_from_the_same(tmp_path):
    pool = NaturalPool(str(_colours(tmp_path)))
    anchors, positives, negatives = pool.cut_triplets(pool.sample(60, _generator(), moved_by=4 / 17), 17)
    assert anchors.shape == positives.shape == negatives.shape == (60, 3, 17, 17)
    assert all(anchor != negative for anchor, negative in zip(_reds(anchors), _reds(negatives), strict=True))
    # Luminance of a positive is 0.8 to 1.2 times and 0.1 up or down of its anchor's, and noise is added.
    change = positives.mean(dim=(1, 2, 3)) - anchors.mean(dim=(1, 2, 3))
    assert change.abs().max() < 0.1 + 0.2 * anchors.mean(dim=(1, 2, 3)).max() + 0.02
    assert change.abs().max() > 0.02
    assert positives[:, 1].std(dim=(1, 2)).min() > 0.001  # blue is black, and may be clipped


def test_a_positive_is_moved_by_at_most_a_quarter_of_the_patch(tmp_path):
    width, height = 256, 128
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[:, :, 0] = np.arange(width)
    ramp[:, :, 1] = ramp[:, :, 2] = 128
    for name in "ab":
        Image.fromarray(ramp).save(tmp_path / f"{name}.png")
    pool = NaturalPool(str(tmp_path))
    patch, shifts = 17, []
    for seed in range(200):
        places = pool.sample(1, _generator(seed), moved_by=(patch - 1) / 4 / patch)
        moved = places.assign(top=places["moved_top"], left=places["moved_left"])
        anchor, positive = pool.cut(places, patch), pool.cut(moved, patch)
        columns = anchor[0, 0].mean(dim=0) * 255
        step = float(columns[-1] - columns[0]) / (patch - 1)  # image columns between a patch's columns
        if step > 0.5 and (anchor[0, 0] - anchor[0, 1]).abs().max() > 1e-3:  # grey ones have a third of the slope
            shifts.append(float((positive[0, 0] - anchor[0, 0]).mean() * 255 / step))
    # (p - 1) / 4 = 4, and half a column for rounding to the image's own
    assert 2.5 < np.abs(shifts).max() <= 4.6
    assert min(shifts) < -1 and max(shifts) > 1


def test_an_image_is_zoomed_as_asked(tmp_path):
    pool = NaturalPool(str(_colours(tmp_path, size=(96, 64))))
    places = pool.sample(400, _generator(), zoom=(1.0, 2.0))
    assert places["side"].between(32, 64).all()  # of a shorter side of 64
    assert places["side"].min() < 35 and places["side"].max() > 60
    assert (places["top"] + places["side"] <= 64).all() and (places["left"] + places["side"] <= 96).all()


def test_the_fingerprint_is_that_of_the_images(tmp_path):
    first = NaturalPool(str(_colours(tmp_path))).fingerprint()
    assert NaturalPool(str(tmp_path)).fingerprint() == first
    assert NaturalPool().fingerprint() != first
    Image.new("RGB", (70, 70)).save(tmp_path / "new.png")
    assert NaturalPool(str(tmp_path)).fingerprint() != first


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"teacher\.pool '.*nowhere' is no folder"):
        NaturalPool(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("count", [0, 1])
def test_a_folder_without_two_images_is_refused(tmp_path, count):
    _colours(tmp_path, count)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=rf"holds {count} images; at least 2 natural images are needed"):
        NaturalPool(str(tmp_path))


def test_a_damaged_image_is_named_when_it_is_cut_from(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(InputError, match=r"[ab]\.png"):
        _patches(NaturalPool(str(tmp_path)), 1, 17, _generator())
