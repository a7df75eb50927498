import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from kdad.errors import InputError
from kdad.metrics.mkd_protocol import mkd_protocol_auroc

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
def test_unusable_stacks_are_refused(change, message):
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
