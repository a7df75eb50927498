"""Drawn defects: exact masks, soft edges, strength, determinism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, gaussian_filter, label

from kdad.images.drawn import blob_distance, draw_defect, nearest_points, soft_step
from kdad.parameters.dataset import DefectParameters


def test_the_step_is_one_half_at_the_outline_and_ends_half_a_width_off():
    np.testing.assert_allclose(soft_step(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 2.0), [0, 0.15625, 0.5, 0.84375, 1])


@pytest.mark.parametrize("seed", range(5))
def test_a_blob_lies_whole_within_the_image(seed):
    inside = np.argwhere(blob_distance((60, 80), 12.0, np.random.default_rng(seed)) < 0)
    assert inside.min() > 0
    assert (inside.max(axis=0) < [59, 79]).all()
    assert 0.5 < len(inside) / (np.pi * 6**2) < 2


def test_distances_to_points_and_which_is_nearest():
    distance, nearest = nearest_points((3, 5), np.array([[0.0, 0.0], [0.0, 4.0]]))
    assert distance[0].tolist() == [0, 1, 2, 1, 0]
    assert distance[2, 0] == 2
    assert nearest[1].tolist()[0] == 0
    assert nearest[1].tolist()[4] == 1


KINDS = ("scratch", "stain", "hole", "paste", "blur")


def surface(seed: int, shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1)
    return (0.5 + 0.12 * noise / noise.std()).clip(0.02, 0.98).astype(np.float32)


def draw(kind: str, seed: int = 0, shape: tuple[int, int] = (64, 80), **parameters) -> tuple[np.ndarray, ...]:
    texture = surface(1, shape)
    image, mask = draw_defect(
        texture, surface(2, shape), kind, DefectParameters(**parameters), np.random.default_rng(seed)
    )
    return texture, image, mask


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=12)
@given(
    st.integers(0, 10**6), st.tuples(st.integers(8, 70), st.integers(8, 70)), st.floats(0.02, 0.5), st.floats(0.1, 32)
)
def test_any_defect_is_somewhere_and_in_range(kind, seed, shape, size, softness):
    texture, image, mask = draw(kind, seed, shape, size=size, softness=softness)
    assert image.dtype == np.float32
    assert image.shape == mask.shape == shape
    assert mask.dtype == bool
    assert mask.any()
    assert image.min() >= 0
    assert image.max() <= 1
    assert not np.array_equal(image, texture)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_is_what_changed_when_edges_are_hard(kind):
    for seed in range(5):
        texture, image, mask = draw(kind, seed, softness=1e-6)
        changed = image != texture
        assert not (changed & ~mask).any()
        assert changed[mask].mean() > 0.97  # a painted value may equal the old one by chance


@pytest.mark.parametrize("kind", KINDS)
def test_soft_edge_reaches_half_its_width_past_the_mask(kind):
    for seed in range(5):
        texture, image, mask = draw(kind, seed, softness=4.0, size=0.3)
        reach = binary_dilation(mask, structure=np.ones((3, 3)), iterations=6)
        outside = (image != texture) & ~mask
        assert outside.any()
        assert not (outside & ~reach).any()


@pytest.mark.parametrize("kind", KINDS)
def test_strength_changes_the_pixels_more_at_the_same_place(kind):
    weak, strong = (draw(kind, 3, strength=strength) for strength in (0.1, 1.0))
    change = [np.abs(image - texture)[mask].mean() for texture, image, mask in (weak, strong)]
    assert change[0] < change[1]


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_the_usual_extent(kind):
    # blobs: the area of a disc of that diameter, times 0.75^2..1.25^2 and what the outline varies
    areas = [draw(kind, seed, (128, 128), size=0.25)[2].sum() for seed in range(20)]
    disc = np.pi / 4 * 32**2
    if kind == "scratch":
        # two extents long, 0.14 extents wide in the middle
        disc = 0.28 * 32**2 * 0.8
    assert 0.7 * disc < np.mean(areas) < 1.4 * disc


def test_a_blob_is_one_piece():
    for seed in range(10):
        assert label(draw("stain", seed, (128, 128), size=0.3)[2])[1] == 1


def test_same_generator_same_defect_and_another_another():
    first, again, other = draw("stain", 5), draw("stain", 5), draw("stain", 6)
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[2], other[2])


def test_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.RandomState(0).random()
    draw("scratch")
    assert np.random.random() == expected  # noqa: NPY002


def test_hole_is_dark_paste_keeps_mean_and_contrast_blur_loses_contrast():
    texture, hole, mask = draw("hole", 1, (128, 128), size=0.4)
    assert hole[mask].mean() < texture[mask].mean() - 0.2
    texture, paste, mask = draw("paste", 1, (128, 128), size=0.4, strength=1)
    assert paste[mask].mean() == pytest.approx(texture[mask].mean(), abs=0.02)
    assert paste[mask].std() == pytest.approx(texture[mask].std(), rel=0.15)
    texture, blur, mask = draw("blur", 1, (128, 128), size=0.4)
    assert blur[mask].std() < 0.5 * texture[mask].std()


def test_stain_keeps_the_texture():
    texture, stain, mask = draw("stain", 1, (128, 128), size=0.4)
    assert np.corrcoef(stain[mask], texture[mask])[0, 1] > 0.8
    assert abs(stain[mask].mean() - texture[mask].mean()) > 0.1


def test_another_texture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="do not match"):
        draw_defect(surface(0, (20, 20)), surface(0, (20, 21)), "paste", DefectParameters(), np.random.default_rng(0))
