"""Varied defects: exact masks, grey stays grey, determinism, and the range of sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, gaussian_filter

from kdad.images.varied_defects import VARIED_KINDS, draw_varied_defect


def surface(seed: int, shape: tuple[int, int] = (64, 80), channels: int = 3) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((channels, *shape)), (0, 1, 1))
    image = (0.5 + 0.12 * noise / noise.std()).clip(0.02, 0.98).astype(np.float32)
    return np.broadcast_to(image, (3, *shape)).copy()


@pytest.mark.parametrize("kind", VARIED_KINDS)
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.tuples(st.integers(8, 70), st.integers(8, 70)))
def test_any_defect_is_somewhere_and_in_range(kind, seed, shape):
    normal = surface(1, shape)
    image, mask = draw_varied_defect(normal, kind, np.random.default_rng(seed))
    assert image.dtype == np.float32
    assert image.shape == (3, *shape)
    assert mask.shape == shape
    assert mask.dtype == bool
    assert mask.any()
    assert image.min() >= 0
    assert image.max() <= 1
    assert not np.array_equal(image, normal)


@pytest.mark.parametrize("kind", [kind for kind in VARIED_KINDS if kind not in ("stain", "blur")])
def test_what_is_far_from_the_mask_stays(kind):
    for seed in range(8):
        normal = surface(seed)
        image, mask = draw_varied_defect(normal, kind, np.random.default_rng(seed))
        reach = binary_dilation(mask, np.ones((3, 3)), iterations=5)
        np.testing.assert_array_equal(image[:, ~reach], normal[:, ~reach])


@pytest.mark.parametrize("kind", VARIED_KINDS)
def test_a_plain_ground_and_a_textured_half_get_defects_on_the_texture(kind):
    inside = 0
    for seed in range(12):
        normal = np.full((3, 64, 64), 0.9, dtype=np.float32)
        normal[:, :, 32:] = surface(seed, (64, 32))
        _, mask = draw_varied_defect(normal, kind, np.random.default_rng(seed))
        inside += np.argwhere(mask)[:, 1].mean() > 30
    assert inside >= 8


@pytest.mark.parametrize("kind", VARIED_KINDS)
def test_grey_images_stay_grey(kind):
    image, _ = draw_varied_defect(surface(3, channels=1), kind, np.random.default_rng(5))
    np.testing.assert_allclose(image, image[:1].repeat(3, axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", VARIED_KINDS)
def test_the_same_seed_draws_the_same_and_another_another(kind):
    normal = surface(1)
    first, again, other = (draw_varied_defect(normal, kind, np.random.default_rng(seed))[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sizes_and_strengths_span_a_wide_range():
    areas, changes = [], []
    for seed in range(80):
        normal = surface(seed)
        image, mask = draw_varied_defect(normal, "spot", np.random.default_rng(seed))
        areas.append(mask.mean())
        changes.append(np.abs(image - normal)[:, mask].mean())
    assert np.quantile(areas, 0.9) > 15 * np.quantile(areas, 0.1)
    assert np.quantile(changes, 0.9) > 3 * np.quantile(changes, 0.1)


def test_lines_are_thin_and_long():
    for kind in ("scratch", "crack"):
        stretched = []
        for seed in range(20):
            _, mask = draw_varied_defect(surface(seed), kind, np.random.default_rng(seed))
            rows, columns = np.argwhere(mask).T
            diagonal = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)
            stretched.append(diagonal**2 / mask.sum())  # length over width
        assert np.median(stretched) > 8


def test_what_is_copied_is_in_the_image_already():
    normal = surface(2)
    image, mask = draw_varied_defect(normal, "copied", np.random.default_rng(11))
    core = ~binary_dilation(~mask, np.ones((3, 3)), iterations=2)
    mirrored = np.pad(normal, ((0, 0), (64, 64), (80, 80)), mode="symmetric").reshape(3, -1).T
    known = {tuple(colour) for colour in mirrored.tolist()}
    assert core.any()
    assert {tuple(colour) for colour in image[:, core].T.tolist()} <= known


def test_a_missing_piece_is_as_plain_as_its_surroundings_are_on_average():
    normal = surface(2)
    drawn = (draw_varied_defect(normal, "missing", np.random.default_rng(seed)) for seed in range(40))
    image, mask = next((image, mask) for image, mask in drawn if mask.mean() > 0.05)
    core = ~binary_dilation(~mask, np.ones((3, 3)), iterations=2)
    assert image[:, core].std() < 0.5 * normal[:, core].std()
    assert image[:, core].mean() == pytest.approx(normal.mean(), abs=0.06)
