import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import result

from kdad.comparison.results import missing, pixel_histograms, tidy
from kdad.comparison.statistics import pixel_aurocs
from kdad.errors import InputError


def test_tidy_has_a_row_for_each_metric_and_cost_that_applies():
    failed = {"axis": "form", "variant": "c", "category": "brick", "seed": 0, "status": "failed", "error": "broken"}
    table = tidy([result("a", 0, 1.0), failed])
    assert set(table["metric"]) == {
        "image_auroc", "pixel_auroc", "pixel_auroc_mkd_protocol", "train_seconds", "parameters", "flops"
    }  # fmt: skip
    assert table.loc[table["metric"] == "image_auroc", "value"].item() == pytest.approx(0.6)
    assert missing([result("a", 0, 1.0), failed]).to_dict("records") == [
        {"axis": "form", "variant": "c", "category": "brick", "seed": 0, "error": "broken"}
    ]


def test_nothing_finished_is_an_empty_table():
    assert tidy([]).columns.tolist() == ["axis", "variant", "category", "seed", "metric", "value"]


def test_histograms_count_every_pixel_and_keep_auroc():
    generator = np.random.default_rng(0)
    masks = generator.random((6, 20, 20)) < 0.2
    maps = (generator.normal(size=masks.shape) + masks).astype(np.float32)
    normal, anomalous = pixel_histograms(masks, maps, bins=512)
    assert (anomalous.sum(1) == masks.sum((1, 2))).all()
    assert (normal.sum(1) == (~masks).sum((1, 2))).all()
    found = pixel_aurocs(normal, anomalous, np.ones((1, 6)))
    assert found == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=2e-3)


def test_histograms_of_constant_maps_fall_into_one_bin():
    masks = np.zeros((1, 2, 2), bool)
    masks[0, 0, 0] = True
    normal, anomalous = pixel_histograms(masks, np.ones((1, 2, 2), np.float32))
    assert (normal > 0).sum() == (anomalous > 0).sum() == 1
    assert pixel_aurocs(normal, anomalous, np.ones((1, 1))) == 0.5


def test_histograms_by_hand_from_masks_of_integers():
    # The median of 1 ... 8 is 4.5: four values below, four above.
    maps = np.array([[[1.0, 2.0], [7.0, 8.0]], [[3.0, 4.0], [5.0, 6.0]]])
    masks = np.array([[[0, 0], [0, 255]], [[255, 0], [0, 0]]], dtype=np.uint8)
    normal, anomalous = pixel_histograms(masks, maps, bins=2)
    assert normal.tolist() == [[2, 1], [1, 2]]
    assert anomalous.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("masks", "maps", "bins", "message"),
    [
        (np.zeros((2, 4, 4)), np.zeros((3, 4, 4)), 8, "the same"),
        (np.zeros((1, 1, 2)), np.array([[[1.0, np.nan]]]), 8, "map 0 holds values that are not finite"),
        (np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), 1, "bins is 1"),
    ],
)
def test_unusable_maps_are_named(masks, maps, bins, message):
    with pytest.raises(InputError, match=message):
        pixel_histograms(masks, maps, bins)
