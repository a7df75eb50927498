import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from synthetic import failed, result

from kdad.errors import InputError
from kdad.experiments.case import CaseResult, in_plan_order, made_by, missing, tidy
from kdad.experiments.run import pixel_histograms
from kdad.metrics.ranking import pixel_aurocs


def test_a_result_survives_its_file():
    found = result("a", 3, 1.0, overrides={"cloner.loss.value_weight": 2}, commit=None, folder="somewhere")
    assert CaseResult.model_validate_json(found.model_dump_json()) == found


def test_a_failed_case_says_so_and_where_it_belongs():
    found = failed("c", "broken", seed=4)
    assert not found.finished
    assert result("a", 0, 1.0).finished
    assert found.place == ("form", "c", "brick", 4)
    assert (found.metrics, found.labels, found.threshold) == ({}, [], None)


def test_a_result_has_no_other_fields_and_no_other_status():
    with pytest.raises(ValidationError, match="unknown parameter 'metric'; did you mean 'metrics'"):
        result("a", 0, 1.0, metric=1)
    with pytest.raises(ValidationError, match="status"):
        result("a", 0, 1.0, status="done")


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


def test_results_stand_in_the_plans_order():
    found = [result("a", 0, 1.0), result("a", 1, 1.0), failed("b", "broken")]
    assert in_plan_order(found[::-1], found) == found[::-1]
    assert in_plan_order([], found) == []


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
