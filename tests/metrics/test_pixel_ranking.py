"""None"""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from kdad.errors import InputError
from kdad.metrics import pixel_ranking
from kdad.metrics.pixel_ranking import (
    in_chunks,
    mkd_protocol_auroc,
    pixel_ap,
    pixel_auroc,
    pixel_roc,
    pro_curve,
    rank_pixels,
    split_values,
)
from kdad.storage import disk_space


@pytest.fixture
def in_files(monkeypatch):
    monkeypatch.setattr(disk_space, "IN_MEMORY", 0)
    monkeypatch.setattr(pixel_ranking, "_CHUNK", 3)


def _stack():
    """Maps of few values, so that many tie at the limit of the curve too."""
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 4, (5, 8, 9)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[1:3, 2:5, 3:6] = True
    return masks, maps


def test_they_are_in_a_file_and_in_the_order_of_the_stack(in_files):
    masks, maps = _stack()
    normal, anomalous = split_values(masks, maps)
    assert isinstance(normal, np.memmap) and isinstance(anomalous, np.memmap)
    np.testing.assert_array_equal(normal, maps[~masks])
    np.testing.assert_array_equal(anomalous, maps[masks])


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 0.6, 1.0])
def test_metrics_do_not_change(monkeypatch, max_fpr):
    masks, maps = _stack()
    in_memory = rank_pixels(masks, maps)
    monkeypatch.setattr(disk_space, "IN_MEMORY", 0)
    in_file = rank_pixels(masks, maps)
    assert (pixel_auroc(in_file), pixel_ap(in_file)) == (pixel_auroc(in_memory), pixel_ap(in_memory))
    curve, other = pro_curve(in_memory, max_fpr), pro_curve(in_file, max_fpr)
    np.testing.assert_array_equal(other.fpr, curve.fpr)
    np.testing.assert_array_equal(other.pro, curve.pro)


def test_values_are_looked_at_in_parts(in_files):
    assert [part.tolist() for part in in_chunks(np.arange(7))] == [[0, 1, 2], [3, 4, 5], [6]]


# 2 x 3 pixels. Anomalous: 0.9, 0.5, 0.2; normal: 0.5, 0.3, 0.1.
MASKS = np.array([[[1, 1, 0], [0, 0, 1]]], dtype=bool)
MAPS = np.array([[[0.9, 0.5, 0.5], [0.3, 0.1, 0.2]]], dtype=np.float32)


@st.composite
def tied_stacks(draw):
    """Small stacks whose few distinct values tie often, with pixels of both kinds."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    masks = draw(arrays(bool, shape))
    assume(masks.any() and not masks.all())
    return masks, draw(arrays(np.int8, shape, elements=st.integers(-2, 3))).astype(np.float32)


def test_auroc_by_hand():
    # 0.9 wins 3; 0.5 wins 2 and ties 1; 0.2 wins 1: 6.5 of 9 pairs.
    assert pixel_auroc(rank_pixels(MASKS, MAPS)) == pytest.approx(6.5 / 9, abs=1e-15)


def test_ap_by_hand():
    # Recall rises by 1/3 at 0.9 (precision 1/1), at 0.5 (2/3) and at 0.2 (3/5).
    assert pixel_ap(rank_pixels(MASKS, MAPS)) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3, abs=1e-15)


def test_roc_by_hand():
    fpr, tpr = pixel_roc(rank_pixels(MASKS, MAPS))
    np.testing.assert_allclose(fpr, [0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(tpr, [0, 1 / 3, 2 / 3, 2 / 3, 1, 1])


@given(tied_stacks())
def test_ties_rank_as_in_scikit_learn(stack):
    masks, maps = stack
    assert pixel_auroc(rank_pixels(masks, maps)) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert pixel_ap(rank_pixels(masks, maps)) == pytest.approx(
        average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9
    )


@given(tied_stacks())
def test_reversed_maps_give_the_complement(stack):
    masks, maps = stack
    assert pixel_auroc(rank_pixels(masks, -maps)) == pytest.approx(1 - pixel_auroc(rank_pixels(masks, maps)), abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 50, 10**6]))
def test_larger_stacks_rank_as_in_scikit_learn(seed, levels):
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 40, 50)) < 0.1
    maps = (rng.integers(0, levels, masks.shape) + levels * 0.3 * masks).astype(np.float32)
    assert pixel_auroc(rank_pixels(masks, maps)) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert pixel_ap(rank_pixels(masks, maps)) == pytest.approx(
        average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9
    )


def test_looking_up_in_chunks_changes_nothing(monkeypatch):
    monkeypatch.setattr(pixel_ranking, "_CHUNK", 2)
    assert pixel_auroc(rank_pixels(MASKS, MAPS)) == pytest.approx(6.5 / 9, abs=1e-15)
    assert pixel_ap(rank_pixels(MASKS, MAPS)) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3, abs=1e-15)


@given(tied_stacks(), st.integers(3, 12))
def test_thinned_roc_keeps_to_the_exact_curve(stack, points):
    masks, maps = stack
    with patch.object(pixel_ranking, "_POINTS", points):
        fpr, tpr = pixel_roc(rank_pixels(masks, maps))
    exact = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    vertices = np.stack(exact[:2], axis=1)
    distance = np.abs(np.stack([fpr, tpr], axis=1)[:, None] - vertices[None]).sum(-1).min(1)
    assert len(fpr) == len(tpr) <= points
    assert distance.max() < 1e-12
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()


def test_thinned_roc_has_nearly_the_whole_area():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 100, 100)) < 0.01
    maps = (rng.random(masks.shape) + 0.5 * masks).astype(np.float32)
    fpr, tpr = pixel_roc(rank_pixels(masks, maps))
    assert np.trapezoid(tpr, fpr) == pytest.approx(pixel_auroc(rank_pixels(masks, maps)), abs=1e-3)


def test_maps_on_disk_rank_as_in_memory_and_stay_unchanged(tmp_path):
    np.save(tmp_path / "maps.npy", MAPS)
    on_disk = np.load(tmp_path / "maps.npy", mmap_mode="r+")
    assert pixel_auroc(rank_pixels(MASKS, on_disk)) == pixel_auroc(rank_pixels(MASKS, MAPS))
    np.testing.assert_array_equal(on_disk, np.float32([[[0.9, 0.5, 0.5], [0.3, 0.1, 0.2]]]))


def test_masks_of_0_and_255_are_read_as_booleans():
    assert pixel_auroc(rank_pixels(MASKS.astype(np.uint8) * 255, MAPS)) == pixel_auroc(rank_pixels(MASKS, MAPS))


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (MASKS, MAPS[:, :1], r"masks have shape \(1, 2, 3\) and maps \(1, 1, 3\)"),
        (MASKS[0], MAPS[0], "must be"),
        (np.zeros_like(MASKS), MAPS, "no anomalous pixel"),
        (np.ones_like(MASKS), MAPS, "no normal pixel"),
        (np.repeat(MASKS, 2, 0), np.concatenate([MAPS, MAPS * np.nan]), "map 1 .*not finite"),
        (MASKS, np.where(MASKS, np.inf, MAPS), "map 0 .*not finite"),
    ],
)
def test_unusable_stacks_are_refused(masks, maps, message):
    with pytest.raises(InputError, match=message):
        rank_pixels(masks, maps)


@given(tied_stacks())
def test_quantiles_are_those_of_all_pixels(stack):
    masks, maps = stack
    shares = np.linspace(0, 1, 9)
    np.testing.assert_array_equal(rank_pixels(masks, maps).quantiles(shares), np.quantile(maps, shares))


def test_quantiles_of_values_that_differ_are_those_of_all_pixels():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 40, 50)) < 0.1
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    shares = np.linspace(0, 1, 1025)[1:-1]
    np.testing.assert_array_equal(rank_pixels(masks, maps).quantiles(shares), np.quantile(maps, shares))


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
THRESHOLDS = (np.arange(1000) / 999).astype(np.float32)


def open_grey(maps):
    return ndimage.grey_opening(maps, footprint=CROSS[None])


def open_binary(binary):
    return ndimage.binary_dilation(ndimage.binary_erosion(binary, CROSS, border_value=1), CROSS)


def published_curve(masks, scaled):
    """False and true positive rates of maps in [0, 1] at 1,000 fixed thresholds, each with an opening of its own."""
    points = [(0.0, 0.0)]
    for threshold in THRESHOLDS[::-1]:
        found = np.stack([open_binary(anomaly_map >= threshold) for anomaly_map in scaled])
        points.append((found[~masks].mean(), found[masks].mean()))
    return np.array(points).T


def stack(seed, levels=None):
    """Two smooth maps that clipping and scaling leave as they are: minimum 0, more than 1 % of pixels at 1."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 24, 24), dtype=bool)
    masks[0, 5:12, 8:15] = masks[1, 14:20, 3:9] = True
    rough = ndimage.gaussian_filter(rng.normal(size=masks.shape) + 0.8 * masks, (0, 0.8, 0.8))
    maps = np.empty(masks.shape, dtype=np.float32)
    for position, values in enumerate(rough):
        clipped = np.minimum(values, np.sort(values, axis=None)[-12])
        maps[position] = (clipped - clipped.min()) / (clipped.max() - clipped.min())
    return masks, maps if levels is None else (np.round(maps * (levels - 1)) / (levels - 1)).astype(np.float32)


def test_thresholded_opening_is_opened_threshold_at_every_threshold():
    _, maps = stack(0)
    for anomaly_map, opened in zip(maps, open_grey(maps), strict=True):
        for threshold in np.unique(anomaly_map):
            np.testing.assert_array_equal(opened >= threshold, open_binary(anomaly_map >= threshold))


def test_one_opening_equals_1000_on_maps_of_1000_levels():
    masks, maps = stack(1, levels=1000)
    fpr, tpr = published_curve(masks, maps)
    assert mkd_protocol_auroc(masks, maps, 0) == pytest.approx(np.trapezoid(tpr, fpr), abs=1e-12)


def test_1000_thresholds_come_within_their_own_error_of_the_exact_area():
    masks, maps = stack(2)
    fpr, tpr = published_curve(masks, maps)
    # The exact curve rises through the same points; between two of them it may leave the chord by half their box.
    bound = (np.diff(fpr) * np.diff(tpr)).sum() / 2
    assert 0 < bound < 1e-3
    assert abs(mkd_protocol_auroc(masks, maps, 0) - np.trapezoid(tpr, fpr)) <= bound + 1e-12


def test_values_above_the_99th_percentile_tie():
    # Of 0 ... 100 the percentile is 99: the anomalous 100 beats 99 normal pixels and ties with one.
    masks, maps = np.zeros((1, 1, 101), dtype=bool), np.arange(101, dtype=np.float32)[None, None]
    masks[0, 0, 100] = True
    assert mkd_protocol_auroc(masks, maps, 0, opening_size=0) == pytest.approx(99.5 / 100)


def test_each_map_is_scaled_by_itself_and_opened():
    masks, maps = stack(3)
    expected = roc_auc_score(masks.ravel(), open_grey(maps).ravel())
    scaled = maps * np.float32([4, 0.25])[:, None, None] + np.float32([-2, 8])[:, None, None]
    assert mkd_protocol_auroc(masks, maps, 0) == pytest.approx(expected, abs=1e-9)
    assert mkd_protocol_auroc(masks, scaled, 0) == pytest.approx(expected, abs=1e-3)
    assert abs(roc_auc_score(masks.ravel(), open_grey(scaled).ravel()) - expected) > 0.05


def test_normal_images_are_left_out():
    masks, maps = stack(4)
    more = np.random.default_rng(0).random((3, 24, 24), dtype=np.float32)
    expected = mkd_protocol_auroc(masks, maps, 0)
    assert (
        mkd_protocol_auroc(np.concatenate([masks, np.zeros_like(more, bool)]), np.concatenate([maps, more]), 0)
        == expected
    )


def test_a_constant_map_ranks_nothing():
    masks, maps = stack(5)
    assert mkd_protocol_auroc(masks, np.full_like(maps, 7), 0) == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks, maps: (masks, maps[:1]), "masks have shape"),
        (lambda masks, maps: (masks, np.where(np.arange(2)[:, None, None], np.nan, maps)), "map 1 .*not finite"),
        (lambda masks, maps: (masks & False, maps), "no anomalous pixel"),
    ],
)
def test_the_protocol_refuses_unusable_stacks(change, message):
    with pytest.raises(InputError, match=message):
        mkd_protocol_auroc(*change(*stack(6)), 0)


def test_the_gaussian_filter_comes_after_the_clip_and_before_the_opening():
    masks, maps = stack(7)
    maps[0, 20, 20] = 1000  # one wild pixel: filtered before the clip, it would drown the defect
    clipped = np.minimum(maps, np.percentile(maps, 99, axis=(1, 2), keepdims=True))
    low, high = clipped.min((1, 2), keepdims=True), clipped.max((1, 2), keepdims=True)
    filtered = ndimage.gaussian_filter((clipped - low) / (high - low), (0, 2, 2))
    opened = np.stack([ndimage.grey_opening(anomaly_map, footprint=CROSS) for anomaly_map in filtered])
    expected = roc_auc_score(masks.ravel(), opened.ravel())
    assert mkd_protocol_auroc(masks, maps, 2) == pytest.approx(expected, abs=1e-4)
