"""Cells by hand: two categories, two seeds, two printed methods."""

import numpy as np
import pandas as pd
import pytest
from pages import first_table

from kdad.experiments.case import CaseResult
from kdad.experiments.papers import compare, misprinted_means, our_figures, render_excerpt, render_tables
from projects import PROJECT

PAPER = pd.DataFrame(
    [
        ("mkd_one_class", "0", "MKD", "image_auroc_percent", 90.0, None, "Table 2"),
        ("mkd_one_class", "1", "MKD", "image_auroc_percent", 80.0, 0.25, "Table 2"),
        ("mkd_one_class", "mean", "MKD", "image_auroc_percent", 85.0, None, "Table 2"),
        ("mkd_one_class", "0", "AnoGAN", "image_auroc_percent", 70.0, None, "Table 2"),
        ("mkd_one_class", "1", "AnoGAN", "image_auroc_percent", 60.2, None, "Table 2"),
        ("mkd_one_class", "mean", "AnoGAN", "image_auroc_percent", 65.3, None, "Table 2"),
        ("us_pro", "0", "MKD by <b>", "pro_auc_fpr0.3", 0.5, None, "Table 1"),
    ],
    columns=["table", "category", "method", "metric", "value", "std", "source"],
)


def result(category: str, seed: int, auroc: float, method: str = "mkd", status: str = "finished") -> CaseResult:
    head = {"axis": "paper_mkd", "variant": method, "category": f"class_{category}", "seed": seed, "system": "mkd"}
    return CaseResult(**head, status=status, metrics={"image_auroc": auroc, "pro_auc": None})


def cell(cells: pd.DataFrame, table: str, category: str, method: str) -> pd.Series:
    (row,) = cells[(cells["table"] == table) & (cells["category"] == category) & (cells["method"] == method)].iloc
    return row


@pytest.fixture
def cells() -> pd.DataFrame:
    results = [result("0", 0, 0.90), result("0", 1, 0.94), result("1", 0, 0.80), result("1", 1, 0.82)]
    return compare(PAPER, our_figures(results), {"mkd": ["MKD", "MKD by <b>"]})


def test_a_cell_is_the_mean_and_sd_over_seeds_beside_the_printed_figure(cells):
    found = cell(cells, "mkd_one_class", "0", "MKD")
    assert (found["paper"], found["seeds"]) == (90, 2)
    assert found["ours"] == pytest.approx(92)
    assert found["sd"] == pytest.approx(np.sqrt(8))  # of 90 and 94
    assert found["difference"] == pytest.approx(2)


def test_the_mean_is_of_each_seeds_mean_over_categories(cells):
    found = cell(cells, "mkd_one_class", "mean", "MKD")
    assert found["ours"] == pytest.approx((85 + 88) / 2)
    assert found["sd"] == pytest.approx(np.sqrt(4.5))  # of 85 and 88
    assert found["difference"] == pytest.approx(1.5)


def test_what_was_not_run_stays_empty(cells):
    assert cell(cells, "mkd_one_class", "0", "AnoGAN")[["ours", "sd", "difference"]].isna().all()
    assert cell(cells, "us_pro", "0", "MKD by <b>")[["ours", "sd", "difference"]].isna().all()


def test_without_every_category_there_is_no_mean():
    results = [result("0", 0, 0.90), result("0", 1, 0.94), result("1", 0, 0.80)]
    found = cell(compare(PAPER, our_figures(results), {"mkd": ["MKD"]}), "mkd_one_class", "mean", "MKD")
    assert found["ours"] == pytest.approx(85)  # of seed 0 alone
    assert found["seeds"] == 1
    none = compare(PAPER, our_figures(results[:2]), {"mkd": ["MKD"]})
    assert np.isnan(cell(none, "mkd_one_class", "mean", "MKD")["ours"])


def test_a_method_that_is_not_printed_has_rows_of_its_own():
    found = compare(PAPER, our_figures([result("0", 0, 0.5, "mine")]), {"mine": []})
    assert np.isnan(cell(found, "mkd_one_class", "0", "mine")["paper"])
    assert cell(found, "mkd_one_class", "0", "mine")["ours"] == 50


def test_failed_results_and_absent_metrics_have_no_figures():
    found = our_figures([result("0", 0, 0.9), result("1", 0, 0.8, status="failed")])
    assert list(found["metric"]) == ["image_auroc_percent"]


def test_a_data_set_that_is_not_printed_shows_ours_alone():
    found = compare(PAPER.iloc[:0], our_figures([result("0", 0, 0.9)]), {"mkd": ["MKD"]})
    assert list(found["category"]) == ["0", "mean"]
    assert found["paper"].isna().all()


def test_page_and_excerpt_show_the_cells(cells):
    failed = pd.DataFrame(
        [{"axis": "paper_mkd", "variant": "mkd", "category": "class_1", "seed": 2, "error": "<out of memory>"}]
    )
    slips = [{"table": "us_pro", "metric": "pro_auc_fpr0.3", "method": "<i>", "printed": 0.443, "of_rows": 0.447}]
    page = render_tables("title", "facts", cells, failed, slips)
    for text in (
        "Printed figures: Table 2.",
        "The printed mean of &lt;i&gt; is 0.443, that of its printed rows 0.447",
        "Not run here: AnoGAN.",
        "&lt;out of memory&gt;",
        "MKD by &lt;b&gt;",
    ):
        assert text in page
    excerpt = render_excerpt("facts", cells)
    assert "| 0 | MKD | 90.00 | 92.00 ± 2.83 (2) | +2.00 |" in excerpt
    assert "| 1 | MKD | 80.00 ± 0.25 | 81.00 ± 1.41 (2) | +1.00 |" in excerpt
    assert "AnoGAN" not in excerpt


def head_of(page: str) -> str:
    return page.partition("<thead>")[2].partition("</thead>")[0]


def test_a_column_holds_one_figure(cells):
    page = render_tables("title", "facts", cells, pd.DataFrame(), [])
    table = first_table(page)
    assert list(table.columns) == ["category", "MKD paper", "MKD ours", "MKD difference", "AnoGAN paper"]
    assert table.values.tolist() == [
        ["0", "90.00", "92.00 ± 2.83", "+2.00", "70.00"],
        ["1", "80.00 ± 0.25", "81.00 ± 1.41", "+1.00", "60.20"],
        ["mean", "85.00", "86.50 ± 2.12", "+1.50", "65.30"],
    ]
    assert page.partition("<tfoot>")[2].partition("</tfoot>")[0].count("<tr>") == 1  # the mean is not sorted away


@pytest.mark.parametrize(
    ("paper", "said"),
    [(PAPER.iloc[:0], "Every figure is ours."), (PAPER[PAPER["method"] == "AnoGAN"], "")],
)
def test_heads_name_kinds_of_figures_only_where_there_are_several(paper, said):
    ours = our_figures([result("0", 0, 0.9), result("1", 0, 0.8)])
    page = render_tables("title", "facts", compare(paper, ours, {"mkd": ["MKD"]}), pd.DataFrame(), [])
    if said:
        assert said in page
        assert head_of(page).count("<tr>") == 1
        assert "paper" not in head_of(page)
    else:
        assert list(first_table(page).columns) == ["category", "mkd ours", "AnoGAN paper"]


def test_a_table_that_is_only_printed_says_so():
    page = render_tables("title", "facts", compare(PAPER, our_figures([]), {}), pd.DataFrame(), [])
    assert "Every figure is the papers&#39;." in page
    assert "ours" not in head_of(page)


def test_a_printed_mean_that_rounding_explains_is_no_misprint():
    # 65.1 is the mean of 70.0 and 60.2; a mean of 65.3 is off by more than rows of one decimal can be.
    (slip,) = misprinted_means(PAPER)
    assert (slip["method"], slip["printed"]) == ("AnoGAN", 65.3)
    assert slip["of_rows"] == pytest.approx(65.1)
    assert misprinted_means(PAPER.replace(65.3, 65.2)) == []


def test_the_two_known_slips_of_the_papers_are_found():
    paper = pd.read_csv(PROJECT / "src/kdad/experiments/paper_results.csv", dtype={"category": str})
    slips = [slip for _, block in paper.groupby("dataset") for slip in misprinted_means(block)]
    assert {(slip["method"], slip["printed"]) for slip in slips} == {("AnoGAN", 0.443), ("CapsNetpp", 61.2)}


def test_rows_come_by_category_and_our_methods_first():
    paper = PAPER[PAPER["table"] == "mkd_one_class"]
    results = [result("0", 0, 0.9), result("1", 0, 0.8), result("0", 0, 0.5, "another"), result("1", 0, 0.5, "another")]
    found = compare(paper, our_figures(results), {"another": [], "mkd": ["MKD"]})
    rows = ["another", "MKD", "AnoGAN"]
    assert found[["category", "method"]].values.tolist() == [[c, m] for c in ("0", "1", "mean") for m in rows]
