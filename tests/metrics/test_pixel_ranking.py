import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from kdad.errors import InputError
from kdad.metrics import pixel_values
from kdad.metrics.pixel_ranking import pixel_ap, pixel_auroc, pixel_roc, rank_pixels

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
    monkeypatch.setattr(pixel_values, "_CHUNK", 2)
    assert pixel_auroc(rank_pixels(MASKS, MAPS)) == pytest.approx(6.5 / 9, abs=1e-15)
    assert pixel_ap(rank_pixels(MASKS, MAPS)) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3, abs=1e-15)


@given(tied_stacks(), st.integers(3, 12))
def test_thinned_roc_keeps_to_the_exact_curve(stack, points):
    masks, maps = stack
    fpr, tpr = pixel_roc(rank_pixels(masks, maps), points)
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
    fpr, tpr = pixel_roc(rank_pixels(masks, maps), 200)
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


def test_too_few_points_are_refused():
    with pytest.raises(InputError, match="points is 2"):
        pixel_roc(rank_pixels(MASKS, MAPS), 2)


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
