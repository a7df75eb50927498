import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kdad.experiments.case import CaseResult
from kdad.experiments.parameters import AxisParameters
from kdad.experiments.tables import (
    PAIR_COLUMNS,
    axis_table,
    category_table,
    compare_pairs,
    holm,
    mcnemar,
    reference_pairs,
    summarise_difference,
)
from kdad.metrics import ranking
from kdad.metrics.ranking import draw_groups, image_aurocs, pixel_aurocs


def axis(variants: str, compare_with: str | dict[str, str], **more) -> AxisParameters:
    return AxisParameters(
        question="Does it help?", compare_with=compare_with, variants={name: {} for name in variants.split()}, **more
    )


def tidy_rows(*rows: tuple) -> pd.DataFrame:
    """Rows (variant, category, seed, metric, value) of the axis `size`."""
    table = pd.DataFrame(rows, columns=["variant", "category", "seed", "metric", "value"])
    return table.assign(axis="size")


def test_each_category_is_compared_with_the_reference():
    found = [("one", "brick", 0.9), ("one", "grass", 0.8), ("all", "brick", 0.7), ("all", "grass", 0.85)]
    rows = [(variant, category, seed, "pro_auc", value) for variant, category, value in found for seed in (0, 1)]
    means, differences = category_table(
        tidy_rows(*rows, ("one", "brick", 2, "pro_auc", 0.6), ("one", "brick", 0, "flops", 9.0)),
        "size",
        axis("one all", "one"),
    )
    assert means.loc["one", "pro_auc"].tolist() == pytest.approx([0.8, 0.8])  # .9, .9 and .6 of brick
    assert differences.loc["all", "pro_auc"].tolist() == pytest.approx([-0.1, 0.05])
    assert differences.loc["one"].isna().all(axis=None)
    assert len(means) == 2


def test_categories_are_averaged_within_a_seed_and_the_spread_is_over_seeds():
    table = axis_table(
        tidy_rows(
            ("small", "brick", 0, "image_auroc", 0.8),
            ("small", "grass", 0, "image_auroc", 1.0),
            ("small", "brick", 1, "image_auroc", 0.6),
            ("small", "grass", 1, "image_auroc", 0.8),
        ),
        "size",
        axis("small", "small"),
    )
    (row,) = table.to_dict("records")
    # Seeds 0.9 and 0.7: mean 0.8, sample sd 0.2 / sqrt(2).
    assert row["seeds"] == 2
    assert row["image_auroc"] == pytest.approx(0.8)
    assert row["image_auroc_sd"] == pytest.approx(0.2 / np.sqrt(2))
    assert "image_auroc_low" not in row


def test_a_seed_that_lacks_a_category_is_left_out_and_not_averaged_over_fewer():
    rows = [(name, "brick", seed, "image_auroc", 0.6) for name in ("small", "equal") for seed in (0, 1)]
    rows += [("small", "grass", 0, "image_auroc", 1.0), ("small", "grass", 1, "image_auroc", 0.8)]
    table = axis_table(tidy_rows(*rows), "size", axis("small equal", "equal")).set_index("variant")
    assert table.loc["small", "image_auroc"] == pytest.approx((0.8 + 0.7) / 2)
    assert np.isnan(table.loc["equal", "image_auroc"])
    assert table["seeds"].to_dict() == {"small": 2, "equal": 0}


def test_a_category_without_masks_does_not_spoil_the_pixel_metrics_of_others():
    rows = tidy_rows(
        ("small", "brick", 0, "pixel_auroc", 0.7),
        ("small", "brick", 0, "image_auroc", 0.8),
        ("small", "digits", 0, "image_auroc", 0.6),
    )
    (row,) = axis_table(rows, "size", axis("small", "small")).to_dict("records")
    assert (row["pixel_auroc"], row["image_auroc"]) == pytest.approx((0.7, 0.7))


def test_variants_stand_in_the_axis_own_order_without_those_of_other_axes():
    rows = tidy_rows(*[(name, "brick", 0, "image_auroc", 0.5) for name in ("equal", "tiny", "small")])
    rows = pd.concat([rows, rows.assign(axis="fusion", value=0.9)])
    table = axis_table(rows, "size", axis("tiny small equal", "equal"))
    assert table["variant"].tolist() == ["tiny", "small", "equal"]
    assert (table["image_auroc"] == 0.5).all()


def test_the_papers_figure_stands_beside_the_metric_it_is_of():
    rows = tidy_rows(*[(name, "brick", 0, "pro_auc", 0.8) for name in ("small", "equal")])
    block = axis("small equal", "equal", paper={"small": 0.9}, paper_metric="pro_auc")
    table = axis_table(rows, "size", block).set_index("variant")
    assert table.loc["small", ["paper", "difference"]].tolist() == pytest.approx([0.9, -0.1])
    assert table.loc["equal", ["paper", "difference"]].isna().all()
    assert "paper" not in axis_table(rows, "size", axis("small equal", "equal"))


def test_costs_are_means_over_cases_and_one_case_keeps_its_interval():
    rows = tidy_rows(
        *[("small", "brick", 0, name, value) for name, value in
          {"train_seconds": 30, "parameters": 7, "flops": 9, "image_auroc": 0.8,
           "image_auroc_low": 0.7, "image_auroc_high": 0.95}.items()]
    )  # fmt: skip
    (row,) = axis_table(rows, "size", axis("small", "small")).to_dict("records")
    assert (row["train_seconds"], row["parameters"], row["flops"]) == (30, 7, 9)
    assert (row["image_auroc_low"], row["image_auroc_high"]) == (0.7, 0.95)
    assert np.isnan(row["image_auroc_sd"])
    more = pd.concat([rows, rows.assign(seed=1, value=rows["value"] + 2)])
    (row,) = axis_table(more, "size", axis("small", "small")).to_dict("records")
    assert row["train_seconds"] == 31
    assert "image_auroc_low" not in row


def test_an_axis_without_a_finished_case_is_an_empty_table():
    table = axis_table(tidy_rows().astype({"value": float}), "size", axis("small equal", "equal"))
    assert len(table) == 0
    assert "variant" in table


def test_variants_are_compared_with_the_reference_or_as_a_mapping_says():
    assert reference_pairs(axis("a b c", "b")) == [("a", "b"), ("c", "b")]
    assert reference_pairs(axis("a b c", {"c": "a"})) == [("c", "a")]
    without = AxisParameters(question="", compare_with={"a": "b", "c": "a"}, variants={"a": {}, "b": None, "c": {}})
    assert reference_pairs(without) == [("c", "a")]


LABELS = np.repeat([0, 1], 12)


def result(variant: str, scores: np.ndarray, category: str = "brick", seed: int = 0, **more) -> CaseResult:
    head = {"axis": "size", "variant": variant, "category": category, "seed": seed, "system": "mkd"}
    return CaseResult(**{**head, "status": "finished", "labels": LABELS.tolist(), "scores": scores.tolist(), **more})


def compare(
    results: list[CaseResult], block: AxisParameters, resamples: int = 200, seed: int = 0, counts: dict | None = None
) -> pd.DataFrame:
    """Compare results; `counts` are the histograms of a variant's maps."""
    generator = np.random.default_rng(seed)
    return compare_pairs(results, lambda one: (counts or {}).get(one.variant), "size", block, resamples, generator)


def noisy(seed: int, strength: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=LABELS.size) + strength * LABELS


def test_equal_variants_do_not_differ():
    (row,) = compare([result("a", noisy(0)), result("b", noisy(0))], axis("a b", "b")).to_dict("records")
    assert [row[name] for name in ("difference", "low", "high", "p", "p_holm")] == [0, 0, 0, 1, 1]
    assert not row["real"]


def test_an_obviously_better_variant_is_really_better():
    found = compare([result("a", LABELS + 0.0), result("b", -LABELS + 0.0)], axis("a b", "b"))
    assert list(found.columns) == PAIR_COLUMNS
    (row,) = found.to_dict("records")
    assert (row["variant"], row["reference"], row["metric"]) == ("a", "b", "image_auroc")
    assert (row["difference"], row["low"], row["high"]) == (1, 1, 1)
    assert row["p"] == pytest.approx(1 / 201)
    assert row["real"]


def test_both_variants_seeds_and_categories_go_through_the_same_resamples():
    """Against a loop over resamples that draws images, not weights, with the labels' AUROC by scikit-learn."""
    cases = [(category, seed) for category in ("brick", "grass") for seed in (0, 1)]
    results = [
        result(variant, noisy(10 * number + offset, strength), *case)
        for offset, (variant, strength) in enumerate({"a": 1.5, "b": 0.8}.items())
        for number, case in enumerate(cases)
    ]
    (row,) = compare(results, axis("a b", "b"), resamples=60, seed=7).to_dict("records")
    generator = np.random.default_rng(7)
    weights = {category: draw_groups(LABELS, np.arange(LABELS.size), 60, generator) for category in ("brick", "grass")}
    differences = []
    for resample in range(60):
        total = 0.0
        for one in results:
            images = np.repeat(np.arange(LABELS.size), weights[one.category][resample])
            area = roc_auc_score(LABELS[images], np.array(one.scores)[images])
            total += area / 4 if one.variant == "a" else -area / 4
        differences.append(total)
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    exact = [np.mean([roc_auc_score(LABELS, one.scores) for one in results if one.variant == v]) for v in "ab"]
    assert row["difference"] == pytest.approx(exact[0] - exact[1])
    assert row["cases"] == 4


def test_only_cases_that_both_variants_finished_are_compared():
    # Over all of its own cases b would win by 1/2; on the brick, the one that both have, it does not differ.
    perfect, wrong = LABELS + 0.0, -LABELS + 0.0
    results = [result("a", perfect), result("a", wrong, "grass"), result("b", perfect)]
    (row,) = compare(results, axis("a b", "b")).to_dict("records")
    assert (row["difference"], row["cases"]) == (0, 1)


def test_every_category_weighs_the_same_however_many_seeds_it_has():
    perfect, wrong = LABELS + 0.0, -LABELS + 0.0
    results = [result("a", perfect, "brick", seed) for seed in (0, 1, 2)] + [result("a", wrong, "grass")]
    results += [result("b", wrong, "brick", seed) for seed in (0, 1, 2)] + [result("b", wrong, "grass")]
    (row,) = compare(results, axis("a b", "b")).to_dict("records")
    assert row["difference"] == pytest.approx(1 / 2)


def counts(anomalous_bin: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image has ten normal pixels in the middle bin of three; anomalous images two pixels in this one."""
    normal, anomalous = np.zeros((2, LABELS.size, 3), dtype=int)
    normal[:, 1] = 10
    anomalous[LABELS == 1, anomalous_bin] = 2
    return normal, anomalous


def test_pixels_are_compared_where_there_are_masks():
    flat = np.zeros(LABELS.size)
    results = [result(name, flat) for name in "abc"]
    found = compare(results, axis("a b c", "b"), counts={"a": counts(2), "b": counts(1)}).set_index(
        ["variant", "metric"]
    )
    assert found.loc[("a", "pixel_auroc"), "difference"] == pytest.approx(1 / 2)
    assert found.loc[("a", "pixel_auroc"), "real"]
    assert ("c", "pixel_auroc") not in found.index
    assert found.loc[("c", "image_auroc"), "p"] == 1


def test_more_comparisons_need_stronger_evidence():
    results = [result(name, noisy(seed, strength)) for name, seed, strength in
               [("a", 1, 3.0), ("b", 2, 0.2), ("c", 3, 0.2), ("d", 4, 0.2)]]  # fmt: skip
    found = compare(results, axis("a b c d", "d")).set_index("variant")
    assert found.loc["a", "p_holm"] == pytest.approx(3 * found.loc["a", "p"])
    assert (found["real"] == (found["p_holm"] < 0.05)).all()


def test_failed_cases_other_axes_and_images_of_one_label_are_not_compared():
    failed = result("a", noisy(0), status="failed")
    elsewhere = result("a", noisy(0), axis="fusion")
    one_label = {"labels": [1] * 24}
    only = [result("a", noisy(1), "grass", **one_label), result("b", noisy(2), "grass", **one_label)]
    found = compare([failed, elsewhere, *only, result("b", noisy(0))], axis("a b", "b"))
    assert len(found) == 0
    assert list(found.columns) == PAIR_COLUMNS


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_weighted_auroc_is_that_of_repeated_images(seed, levels):
    generator = np.random.default_rng(seed)
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = generator.integers(levels, size=7).astype(float)
    weights = draw_groups(labels, np.arange(labels.size), 4, generator)
    expected = [roc_auc_score(np.repeat(labels, row), np.repeat(scores, row)) for row in weights]
    np.testing.assert_allclose(image_aurocs(labels, scores, weights), expected)


def test_each_label_keeps_its_count():
    labels = np.array([0, 1, 0, 1, 1])
    weights = draw_groups(labels, np.arange(labels.size), 50, np.random.default_rng(0))
    assert (weights[:, labels == 0].sum(1) == 2).all()
    assert (weights[:, labels == 1].sum(1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 10


def test_pixel_auroc_from_histograms_is_that_of_repeated_images():
    generator = np.random.default_rng(1)
    values = generator.integers(8, size=(5, 30))
    masks = generator.random((5, 30)) < 0.3
    histogram = np.stack(
        [[np.bincount(v[m == kind], minlength=8) for v, m in zip(values, masks, strict=True)] for kind in (0, 1)]
    )
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 2], [0, 3, 0, 1, 1]])
    expected = [
        roc_auc_score(np.repeat(masks, row, axis=0).ravel(), np.repeat(values, row, axis=0).ravel()) for row in weights
    ]
    np.testing.assert_allclose(pixel_aurocs(*histogram, weights), expected)


def test_resamples_come_in_blocks_that_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    labels, scores = np.array([0, 1, 0, 1, 1, 0, 0]), generator.normal(size=7)
    normal, anomalous = generator.integers(1, 9, (2, 7, 3))
    weights = draw_groups(labels, np.arange(labels.size), 33, generator)
    whole = image_aurocs(labels, scores, weights), pixel_aurocs(normal, anomalous, weights)
    rows = []
    areas = ranking._areas
    monkeypatch.setattr(ranking, "_DRAWS", 40)
    monkeypatch.setattr(ranking, "_areas", lambda n, a: rows.append(len(n)) or areas(n, a))
    parts = image_aurocs(labels, scores, weights), pixel_aurocs(normal, anomalous, weights)
    np.testing.assert_array_equal(whole, parts)
    assert sum(rows) == 2 * 33
    assert max(rows) * 7 <= 50


def test_p_is_twice_the_smaller_tail():
    # Of 100 resamples, 3 lie at or below 0: p = 2 * 3 / 100.
    resampled = np.concatenate([np.full(3, -0.1), np.full(97, 0.2)])
    mean, low, high, p_value = summarise_difference(0.19, resampled)
    assert (mean, p_value) == (0.19, pytest.approx(0.06))
    assert low <= high


def test_p_is_never_0_and_1_without_a_difference():
    assert summarise_difference(0.2, np.full(999, 0.2))[3] == pytest.approx(1 / 1000)
    assert summarise_difference(0.0, np.zeros(10))[3] == 1


def test_holm_by_hand():
    # Sorted .01 .02 .04 times 3, 2, 1: .03, .04, .04; running maximum; in the given order.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1.0, 1.0])


def test_mcnemars_exact_test_is_of_a_fair_coin():
    # 2 of 10 or fewer, or 8 or more: 2 (1 + 10 + 45) / 2 ** 10.
    assert mcnemar(2, 8) == mcnemar(8, 2) == pytest.approx(112 / 1024)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
