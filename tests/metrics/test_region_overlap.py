import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label
from sklearn.metrics import roc_curve

from kdad.errors import InputError
from kdad.metrics.pixel_ranking import mkd_protocol_auroc, pro_curve, rank_pixels

# 2 x 3 pixels with two regions of one pixel. In falling order: region, normal, normal, region, normal, normal.
MASKS = np.array([[[1, 0, 0], [0, 0, 1]]], dtype=bool)
MAPS = np.array([[[0.9, 0.8, 0.1], [0.2, 0.3, 0.25]]], dtype=np.float32)


def pro_auc(masks, maps, max_fpr=0.3):
    return pro_curve(rank_pixels(masks, maps), max_fpr).area


def area_by_thresholds(masks, maps, max_fpr):
    """The definition, one threshold at a time."""
    regions = []
    for position, mask in enumerate(masks):
        labelled = label(mask, connectivity=2)
        regions += [(position, labelled == number) for number in range(1, labelled.max() + 1)]
    x, y = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        x.append(found[~masks].mean())
        y.append(np.mean([found[position][region].mean() for position, region in regions]))
    area = 0.0
    for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if x0 < max_fpr < x1:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        if x1 <= max_fpr:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


@st.composite
def tied_stacks(draw, most_images=3):
    """Small stacks of few distinct values, dense masks (touching and diagonal regions), with pixels of both kinds."""
    shape = draw(st.tuples(st.integers(1, most_images), st.integers(1, 5), st.integers(1, 6)))
    masks = draw(arrays(bool, shape))
    assume(masks.any() and not masks.all())
    return masks, draw(arrays(np.int8, shape, elements=st.integers(-2, 4))).astype(np.float32)


limits = st.sampled_from([0.01, 0.05, 0.1, 0.3, 1 / 3, 0.5, 0.75, 1.0])


def test_curve_by_hand():
    curve = pro_curve(rank_pixels(MASKS, MAPS), max_fpr=1.0)
    np.testing.assert_array_equal(curve.fpr, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_array_equal(curve.pro, [0, 0.5, 0.5, 1, 1])


@pytest.mark.parametrize(("max_fpr", "area"), [(1.0, 0.75), (0.75, 2 / 3), (0.5, 0.5), (0.3, 0.5)])
def test_area_by_hand(max_fpr, area):
    assert pro_auc(MASKS, MAPS, max_fpr) == pytest.approx(area, abs=1e-12)


def test_tied_values_are_found_together():
    masks = np.array([[[1, 1, 0], [0, 0, 0]]], dtype=bool)
    maps = np.array([[[2, 1, 1], [1, 0, 0]]], dtype=np.float32)
    # (0, 0), (0, 1/2), then one straight segment to (1/2, 1), cut at 1/4.
    curve = pro_curve(rank_pixels(masks, maps), max_fpr=0.25)
    np.testing.assert_allclose(curve.fpr, [0, 0, 0.25])
    np.testing.assert_allclose(curve.pro, [0, 0.5, 0.75])
    assert curve.area == pytest.approx(0.625, abs=1e-12)


def test_a_background_that_is_all_tied_is_one_segment_to_the_limit():
    masks, maps = np.array([[[1, 1, 0, 0]]], dtype=bool), np.array([[[1, 0, 0, 0]]], dtype=np.float32)
    # Straight from (0, 1/2) to (1, 1): 0.65 at the limit 0.3.
    assert pro_auc(masks, maps, 0.3) == pytest.approx((0.5 + 0.65) / 2, abs=1e-12)


def test_a_curve_that_ends_below_1_is_not_rescaled():
    masks, maps = np.array([[[1, 1, 0, 0]]], dtype=bool), np.array([[[2, 0, 1, 1]]], dtype=np.float32)
    curve = pro_curve(rank_pixels(masks, maps), max_fpr=0.3)
    assert curve.pro.max() == 0.5
    assert curve.area == pytest.approx(0.5, abs=1e-12)


def test_nothing_found_before_the_limit_is_0():
    masks, maps = np.array([[[1, 0, 0]]], dtype=bool), np.array([[[0, 1, 2]]], dtype=np.float32)
    assert pro_auc(masks, maps, 0.3) == 0.0


def test_every_region_counts_the_same_whatever_its_size_and_image():
    masks = np.zeros((2, 1, 9), dtype=bool)
    masks[0, 0, :4] = True  # four pixels, found
    masks[1, 0, [0, 2]] = True  # two regions of one pixel, missed
    maps = np.zeros((2, 1, 9), dtype=np.float32)
    maps[masks] = [3, 3, 3, 3, -1, -1]
    # 1 region of 3: not 1/2 (mean of the images), not 2/3 (mean of the pixels).
    assert pro_auc(masks, maps, 0.3) == pytest.approx(1 / 3, abs=1e-12)


def test_false_positive_rate_is_over_all_images():
    masks, maps = np.zeros((2, 1, 4), dtype=bool), np.zeros((2, 1, 4), dtype=np.float32)
    masks[0, 0, 0] = True
    maps[0, 0] = [1, 2, 0, 0]  # one normal pixel of seven comes first
    curve = pro_curve(rank_pixels(masks, maps), max_fpr=0.5)
    np.testing.assert_allclose(curve.fpr, [0, 1 / 7, 1 / 7, 0.5])
    np.testing.assert_allclose(curve.pro, [0, 0, 1, 1])


def test_pixels_that_touch_at_a_corner_are_one_region():
    masks = np.array([[[1, 0, 0, 0], [0, 1, 0, 1]]], dtype=bool)
    maps = np.where(masks, [[[1, 0, 0, 0], [0, 1, 0, -1]]], 0).astype(np.float32)
    assert pro_auc(masks, maps, 0.3) == pytest.approx(1 / 2, abs=1e-12)


@given(tied_stacks(), limits)
def test_area_is_that_of_the_definition(stack, max_fpr):
    assert pro_auc(*stack, max_fpr) == pytest.approx(area_by_thresholds(*stack, max_fpr), abs=1e-9)


@given(tied_stacks(most_images=1), limits)
def test_area_of_one_image_is_that_of_the_definition(stack, max_fpr):
    assert pro_auc(*stack, max_fpr) == pytest.approx(area_by_thresholds(*stack, max_fpr), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_area_of_smooth_maps_is_that_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    masks = np.repeat(np.repeat(rng.random((3, 4, 4)) < 0.3, 5, 1), 5, 2)
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    assert pro_auc(masks, maps) == pytest.approx(area_by_thresholds(masks, maps, 0.3), abs=1e-9)


@given(tied_stacks(), limits)
def test_curve_runs_from_the_origin_to_the_limit_and_never_falls(stack, max_fpr):
    curve = pro_curve(rank_pixels(*stack), max_fpr)
    assert (curve.fpr[0], curve.pro[0], curve.fpr[-1]) == (0, 0, max_fpr)
    assert (np.diff(curve.fpr) >= 0).all() and (np.diff(curve.pro) >= 0).all()
    assert 0 <= curve.area <= 1


@pytest.mark.parametrize("count", [3, 14, 21, 26, 50, 100, 191])
def test_all_regions_found_is_1_and_no_rounding_more(count):
    masks = (np.arange(2 * count) % 2 == 0)[None, None]
    curve = pro_curve(rank_pixels(masks, masks.astype(np.float32)))
    assert curve.pro.max() <= 1
    assert curve.area == pytest.approx(1, abs=1e-12)


@given(tied_stacks(), limits)
def test_only_the_order_of_values_counts(stack, max_fpr):
    masks, maps = stack
    assert pro_auc(masks, np.exp(maps), max_fpr) == pytest.approx(pro_auc(masks, maps, max_fpr), abs=1e-12)


@given(tied_stacks(), limits)
def test_a_stack_given_twice_has_the_same_area(stack, max_fpr):
    masks, maps = stack
    twice = pro_auc(np.concatenate([masks, masks]), np.concatenate([maps, maps]), max_fpr)
    assert twice == pytest.approx(pro_auc(masks, maps, max_fpr), abs=1e-12)


@given(tied_stacks(most_images=1), limits)
def test_one_region_gives_the_roc_curve(stack, max_fpr):
    _, maps = stack
    masks = np.zeros_like(maps, dtype=bool)
    masks[0, 0, : max(maps.shape[2] // 2, 1)] = True
    assume(not masks.all())
    fpr, tpr, _ = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    x = np.append(fpr[fpr < max_fpr], max_fpr)
    y = np.append(tpr[fpr < max_fpr], np.nan)
    after = np.flatnonzero(fpr >= max_fpr)[0]
    slope = (tpr[after] - tpr[after - 1]) / (fpr[after] - fpr[after - 1])
    y[-1] = tpr[after - 1] + slope * (max_fpr - fpr[after - 1])
    assert pro_auc(masks, maps, max_fpr) == pytest.approx(np.trapezoid(y, x) / max_fpr, abs=1e-9)


def test_thinned_curve_has_few_points_of_the_same_curve():
    rng = np.random.default_rng(0)
    masks = np.repeat(np.repeat(rng.random((4, 5, 5)) < 0.3, 10, 1), 10, 2)
    curve = pro_curve(rank_pixels(masks, (rng.normal(size=masks.shape) + masks).astype(np.float32)))
    thinned = curve.thinned(200)
    assert len(thinned.fpr) <= 200 < len(curve.fpr)
    assert set(zip(thinned.fpr, thinned.pro, strict=True)) <= set(zip(curve.fpr, curve.pro, strict=True))
    assert (thinned.fpr[0], thinned.pro[0]) == (0, 0)
    assert (thinned.fpr[-1], thinned.pro[-1]) == (curve.fpr[-1], curve.pro[-1])
    assert thinned.area == pytest.approx(curve.area, abs=0.01)


def test_maps_on_disk_give_the_same_area_and_stay_unchanged(tmp_path):
    np.save(tmp_path / "maps.npy", MAPS)
    on_disk = np.load(tmp_path / "maps.npy", mmap_mode="r+")
    assert pro_auc(MASKS, on_disk, 0.75) == pytest.approx(2 / 3, abs=1e-12)
    np.testing.assert_array_equal(on_disk[0, 0], np.float32([0.9, 0.8, 0.1]))


def test_of_a_region_its_pixels_alone_are_ranked():
    """Against the same images cut to the region, which is a rectangle."""
    generator = np.random.default_rng(0)
    masks = np.zeros((5, 12, 9), dtype=bool)
    masks[1, 2:5, 1:4] = masks[3, 0:2, 5:7] = masks[3, 6:8, 0:2] = True
    maps = generator.normal(size=masks.shape).astype(np.float32) + masks
    region = np.zeros((12, 9), dtype=bool)
    region[:8, :7] = True
    found = rank_pixels(masks, maps, [region] * len(maps))
    expected = rank_pixels(masks[:, :8, :7], maps[:, :8, :7])
    np.testing.assert_array_equal(found.normal, expected.normal)
    np.testing.assert_array_equal(found.anomalous, expected.anomalous)
    for max_fpr in (0.1, 1.0):
        assert pro_curve(found, max_fpr).area == pytest.approx(pro_curve(expected, max_fpr).area)
    shares = np.linspace(0, 1, 7)
    np.testing.assert_allclose(found.quantiles(shares), np.quantile(maps[:, :8, :7], shares), rtol=1e-6)
    # What maps say outside does not matter.
    maps[:, 8:] = maps[:, :, 7:] = 1e6
    np.testing.assert_array_equal(rank_pixels(masks, maps, [region] * len(maps)).normal, expected.normal)
    cut = mkd_protocol_auroc(masks[:, :8, :7], maps[:, :8, :7], 0, 0)
    assert mkd_protocol_auroc(masks, maps, 0, 0, [region] * len(maps)) == cut
    with pytest.raises(InputError, match="no normal pixel"):
        rank_pixels(np.broadcast_to(region, masks.shape), maps, [region] * len(maps))


@given(st.integers(0, 10_000))
def test_pro_of_some_images_averages_their_regions_over_all_normal_pixels(seed):
    generator = np.random.default_rng(seed)
    masks = np.zeros((3, 6, 7), dtype=bool)
    masks[0, 1:3, 1:4] = masks[1, 2:5, 2:6] = masks[2, 0, :2] = masks[2, 4, 3:] = True
    for separation in (0.0, 10.0):  # of the second, every anomalous pixel of each image is above every normal one
        maps = np.round(generator.random(masks.shape), 2).astype(np.float32) + separation * masks
        for counted in (np.array([True, False, False]), np.array([False, True, True])):
            found = pro_curve(rank_pixels(masks, maps), 0.3, counted).area
            # Pixels of the others are neither inside of a region nor normal.
            expected = _area_of(masks, maps, counted)
            assert found == pytest.approx(expected, abs=1e-9)


def _area_of(masks, maps, counted) -> float:
    regions = []
    for position in np.flatnonzero(counted):
        labelled = label(masks[position], connectivity=2)
        regions += [maps[position][labelled == number] for number in range(1, labelled.max() + 1)]
    x, y = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        x.append((maps[~masks] >= threshold).mean())
        y.append(np.mean([(region >= threshold).mean() for region in regions]))
    grid = np.array(x)
    stop = np.searchsorted(grid, 0.3, "right")
    last = y[stop - 1] + (y[stop] - y[stop - 1]) * (0.3 - x[stop - 1]) / (x[stop] - x[stop - 1])
    return float(np.trapezoid([*y[:stop], last], [*x[:stop], 0.3]) / 0.3)
