from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import failed, result

from kdad.errors import InputError
from kdad.experiments.results import current_results, made_by, missing, pixel_histograms, tidy
from kdad.experiments.statistics import pixel_aurocs


def test_tidy_has_a_row_for_each_metric_and_cost_that_applies():
    broken = failed("c", "broken")
    table = tidy([result("a", 0, 1.0), broken])
    assert set(table["metric"]) == {
        "image_auroc", "pixel_auroc", "pixel_auroc_mkd_protocol", "train_seconds", "parameters", "flops"
    }  # fmt: skip
    assert table.loc[table["metric"] == "image_auroc", "value"].item() == pytest.approx(0.6)
    assert missing([result("a", 0, 1.0), broken]).to_dict("records") == [
        {"axis": "form", "variant": "c", "category": "brick", "seed": 0, "error": "broken"}
    ]


def test_a_cost_that_was_not_measured_has_no_row():
    assert "flops" not in set(tidy([result("a", 0, 1.0, costs={"train_seconds": 3.0})])["metric"])


def test_nothing_finished_is_an_empty_table():
    assert tidy([]).columns.tolist() == ["axis", "variant", "category", "seed", "metric", "value"]


def test_histograms_count_every_pixel_and_keep_auroc():
    generator = np.random.default_rng(0)
    masks = generator.random((6, 20, 20)) < 0.2
    maps = (generator.normal(size=masks.shape) + masks).astype(np.float32)
    normal, anomalous = pixel_histograms(masks, maps, np.quantile(maps, np.linspace(0, 1, 513)[1:-1]))
    assert (anomalous.sum(1) == masks.sum((1, 2))).all()
    assert (normal.sum(1) == (~masks).sum((1, 2))).all()
    found = pixel_aurocs(normal, anomalous, np.ones((1, 6)))
    assert found == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=2e-3)


def test_histograms_of_constant_maps_fall_into_one_bin():
    masks = np.zeros((1, 2, 2), bool)
    masks[0, 0, 0] = True
    normal, anomalous = pixel_histograms(masks, np.ones((1, 2, 2), np.float32), np.ones(7))
    assert (normal > 0).sum() == (anomalous > 0).sum() == 1
    assert pixel_aurocs(normal, anomalous, np.ones((1, 1))) == 0.5


def test_histograms_by_hand_from_masks_of_integers():
    maps = np.array([[[1.0, 2.0], [7.0, 8.0]], [[3.0, 4.0], [5.0, 6.0]]])
    masks = np.array([[[0, 0], [0, 255]], [[255, 0], [0, 0]]], dtype=np.uint8)
    normal, anomalous = pixel_histograms(masks, maps, np.array([4.5]))
    assert normal.tolist() == [[2, 1], [1, 2]]
    assert anomalous.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (np.zeros((2, 4, 4)), np.zeros((3, 4, 4)), "the same"),
        (np.zeros((1, 1, 2)), np.array([[[1.0, np.nan]]]), "map 0 holds values that are not finite"),
    ],
)
def test_unusable_maps_are_named(masks, maps, message):
    with pytest.raises(InputError, match=message):
        pixel_histograms(masks, maps, np.array([4.5]))


def planned(variant: str, seed: int = 0, key: str = "as planned") -> SimpleNamespace:
    """A case as a plan knows it."""
    return SimpleNamespace(place=("form", variant, "brick", seed), planned_key=key, system="mkd")


def test_a_result_is_current_where_it_is_of_what_is_planned():
    found = [result("a", 0, 1.0, planned="as planned"), result("a", 1, 1.0, planned="as planned")]
    assert current_results([planned("a", 1), planned("a", 0)], found) == found[::-1]


def test_a_result_that_is_not_planned_is_left_out():
    assert current_results([], [result("a", 0, 1.0, planned="as planned")]) == []


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([], "not run yet"),
        ([result("a", 1, 1.0, planned="as planned")], "not run yet"),
        ([result("a", 0, 1.0, planned="another")], "its result is of other settings or other code; run it again"),
    ],
)
def test_what_is_absent_or_of_other_settings_counts_as_failed(found, error):
    (current,) = current_results([planned("a")], found)
    assert (current.status, current.error, current.place) == ("failed", error, ("form", "a", "brick", 0))
    assert tidy([current]).empty


def test_a_failed_case_keeps_its_own_error():
    found = failed("a", "broken").model_copy(update={"planned": "as planned"})
    assert current_results([planned("a")], [found]) == [found]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "no result"),
        ([("abc", "2026-01-02T10:00:00+00:00")], "commit abc, 2026-01-02"),
        ([("abc", "2026-01-02T10:00:00+00:00"), ("abc", "2026-01-02T11:00:00+00:00")], "commit abc, 2026-01-02"),
        (
            [("def", "2026-03-04T00:00:00+00:00"), ("abc", "2026-01-02T10:00:00+00:00"), (None, "2026-02-01")],
            "commits abc, def, unknown, 2026-01-02 to 2026-03-04",
        ),
    ],
)
def test_results_say_which_commits_made_them_and_when(made, said):
    found = [result("a", seed, 1.0, commit=commit, made=when) for seed, (commit, when) in enumerate(made)]
    assert made_by([*found, failed("b", "broken")]) == said
