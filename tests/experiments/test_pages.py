import re

import numpy as np
import pandas as pd
import pytest
from pages import imagined_page
from synthetic import AXIS, failed, result, results

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.experiments.case import Case, CaseResult, tidy
from kdad.experiments.pages import (
    axis_section,
    baseline_table,
    draw_axis,
    draw_filter,
    render_baselines,
    sheets_of,
    split_filter_name,
    table_cells,
)
from kdad.experiments.tables import axis_table, category_table


def test_page_holds_tables_figures_and_settings():
    page = imagined_page()
    for text in ("Is b better than a?", "0.5250 ± 0.0071", "cloner.loss.value_weight=2", "data:image/svg+xml;base64,"):
        assert text in page


def test_page_needs_nothing_from_elsewhere():
    page = re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "data:", imagined_page())
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "http" not in page
    assert "@import" not in page


def test_a_tile_names_the_best_variant_by_a_metric_in_which_they_differ():
    assert "<dd>b<small>image AUROC 0.8050 ± 0.0071, the highest of 2</small></dd>" in imagined_page()
    alike = {"image_auroc": 0.9, "pixel_auroc": 0.7, "pro_auc": None, "pixel_auroc_mkd_protocol": 0.7}
    found = [result("a", 0, 0.2, metrics=alike | {"pixel_auroc": 0.8}), result("b", 0, 0.2, metrics=alike)]
    assert axis_tile(found) == (AXIS.question, "a", "pixel AUROC 0.8000, the highest of 2")
    alike |= {"image_auroc": None, "pixel_auroc": None}
    assert axis_tile([result("a", 0, 0.2, metrics=alike)]) is None


def axis_tile(found: list[CaseResult]) -> tuple[str, str, str] | None:
    table = axis_table(tidy(found), "form", AXIS)
    parts = (
        pd.DataFrame({"low": [], "high": []}),
        draw_axis(table, "title"),
        {},
        category_table(tidy(found), "form", AXIS),
    )
    return axis_section("form", AXIS.question, table, *parts)["tile"]


def test_settings_and_errors_are_escaped():
    page = imagined_page([{"axis": "form", "variant": "c", "category": "brick", "seed": 1, "error": "<b>x</b>"}])
    assert "<script>alert" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "1 cases are missing" in page


def test_missing_section_is_there_only_when_something_is_missing():
    assert "are missing" not in imagined_page()


COSTS = {"train_seconds": 2.0, "milliseconds_an_image": 3.0, "kept_megabytes": 4.0, "peak_megabytes": 5.0}
ROW = {
    "method": "nearest_source",
    "sees": "source",
    "image_auroc": 0.8765,
    "image_auroc_low": 0.8,
    "image_auroc_high": 0.95,
    "pixel_auroc": None,
    "pro_auc": None,
    "pixel_auroc_mkd_protocol": None,
    "fit_seconds": 0.1234,
    "milliseconds_an_image": 2.51,
    "kept_megabytes": 1.5,
    "peak_megabytes": 12.4,
}


def test_cells_by_hand():
    (cells,) = table_cells(pd.DataFrame([ROW]))
    assert cells == [
        *("nearest source", "source", "0.8765 [0.8000, 0.9500]", "-", "-", "-", "0.12", "2.5", "1.50 [12]"),
    ]


def test_without_anomalous_test_images_there_is_no_interval():
    nothing = dict.fromkeys(("image_auroc", "image_auroc_low", "image_auroc_high"))
    (cells,) = table_cells(pd.DataFrame([ROW | nothing]))
    assert cells[2] == "-"


def test_names_are_escaped():
    page = render_baselines("a <b>", "facts", pd.DataFrame([ROW | {"method": "<script>x"}]), {}, pd.DataFrame())
    assert "<script>x" not in page
    assert "a &lt;b&gt;" in page


def test_page_shows_the_methods_as_points_and_says_what_is_missing():
    absent = pd.DataFrame([{"axis": "baselines", "variant": "vae", "category": "brick", "seed": 0, "error": "no disk"}])
    page = render_baselines("title", "facts", pd.DataFrame([ROW]), {"maps": b"picture"}, absent)
    assert "1 cases are missing" in page
    assert "no disk" in page
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "data:image/png;base64,cGljdHVyZQ==" in page


def test_trained_detectors_have_rows_that_name_their_run_and_no_costs():
    metrics = {"image_auroc": 0.9, "image_auroc_low": 0.8, "image_auroc_high": 1.0, "pixel_auroc": 0.7}
    metrics |= {"pro_auc": None, "pixel_auroc_mkd_protocol": 0.6, "flops": 5, "test_normal": 4}
    record = {"metrics": metrics, "training_images": 7, "made": "2026-11-30T18:49:53+00:00", "commit": "abc"}
    trained = {"mkd": record | {"mlflow_run": "0922272e3c59"}, "uninformed_students": record}
    table = baseline_table([_case("nearest")], [result("nearest", 0, 1.0, costs=COSTS)], trained)
    assert "flops" not in table
    assert table.loc[1, "test_normal"] == 4
    assert table_cells(table)[0][0] == "nearest"
    cells = ["images", "0.9000 [0.8000, 1.0000]", "0.7000", "-", "0.6000", "-", "-", "-"]
    assert table_cells(table)[1:] == [
        ["mkd (run 0922272e, 2026-11-30 18:49)", *cells],
        ["uninformed students (commit abc, 2026-11-30 18:49)", *cells],
    ]
    page = render_baselines("title", "facts", table, {}, pd.DataFrame())
    assert "figures that their run kept" in page
    page = render_baselines(
        "title", "facts", baseline_table([], [], {"mkd": record}), {}, pd.DataFrame(), ["committee"]
    )
    assert "No row of committee" in page
    assert "<code>kedro run --pipeline=committee</code>" in page


def test_a_page_without_a_finished_method_can_be_written():
    table = baseline_table([_case("other")], [failed("other", "broken")])
    assert 'class="sortable baselines"' in render_baselines("title", "facts", table, {}, pd.DataFrame())


def _case(name: str) -> Case:
    methods = {name: {"detector": "knn", "representation": "pixels"}}
    settings = BaselineSettings(source={}, features={}, baselines={"methods": methods})
    return Case("baselines", name, "brick", 0, "baselines", settings, {})


def test_a_row_says_what_the_method_sees_and_what_it_costs():
    nearest = result("nearest", 0, 1.0, costs=COSTS, training_images=7)
    table = baseline_table([_case("nearest"), _case("other")], [nearest, failed("other", "broken")])
    (row,) = table.to_dict("records")
    assert [row[name] for name in ("method", "detector", "sees", "training_images")] == ["nearest", "knn", "pixels", 7]
    assert [row[name] for name in ("fit_seconds", *list(COSTS)[1:])] == [2, 3, 4, 5]
    assert row["image_auroc"] == nearest.metrics["image_auroc"]


def test_without_a_finished_method_the_table_is_empty():
    table = baseline_table([_case("other")], [failed("other", "broken")])
    assert list(table.columns) == ["method", "detector", "sees"]
    assert table_cells(table) == []


def test_sheets_are_of_finished_methods_that_map(tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/heatmaps.png").write_bytes(b"picture")
    found = [result("maps", 0, 1.0, folder=str(tmp_path / "maps")), result("scores", 0, 1.0, folder=str(tmp_path))]
    assert sheets_of([*found, failed("other", "broken")]) == {"maps": b"picture"}


def texts(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gradients", ("gradients", 0, False)),
        ("smooth_grad_sigma_4", ("smooth_grad", 4, False)),
        ("discrepancy_sigma_2_opening", ("discrepancy", 2, True)),
    ],
)
def test_filter_names_are_split(name, parts):
    assert split_filter_name(name) == parts


def points(axes) -> tuple[list[float], list[list[float]]]:
    """Return the points of a panel from top to bottom, and the ends of their intervals."""
    (drawn,) = axes.containers
    order = np.argsort(-drawn.lines[0].get_ydata())
    ends = [segment[:, 0].tolist() for segment in drawn.lines[2][0].get_segments()] if drawn.has_xerr else []
    return drawn.lines[0].get_xdata()[order].tolist(), [ends[place] for place in order] if ends else []


def test_points_show_each_variants_mean_and_spread():
    table = axis_table(tidy(results()), "form", AXIS)
    figure = draw_axis(table, "Is b better?")
    assert len(figure.axes) == 2  # image and pixel AUROC; PRO was not measured
    means, ends = points(figure.axes[0])
    assert means == pytest.approx([0.525, 0.805])
    sd = 0.01 / 2**0.5  # of seeds 0.01 apart
    np.testing.assert_allclose(ends, [[0.525 - sd, 0.525 + sd], [0.805 - sd, 0.805 + sd]])
    assert {"0.525", "0.805"} <= set(texts(figure))
    assert all(not axes.patches for axes in figure.axes)  # a bar says nothing where its axis does not begin at 0


def test_one_case_has_its_bootstrap_interval():
    rows = [result("a", 0, 0.2)]
    rows[0].metrics.update(image_auroc_low=0.4, image_auroc_high=0.6)
    image, pixel = draw_axis(axis_table(tidy(rows), "form", AXIS), "title").axes
    np.testing.assert_allclose(points(image)[1], [[0.4, 0.6]])
    assert points(pixel) == (pytest.approx([0.52]), [])  # nothing is known of its spread


def test_an_interval_lies_inside_its_panel():
    rows = [result("a", 0, 0.2)]
    rows[0].metrics.update(image_auroc_low=0.4, image_auroc_high=1.0)
    left, right = draw_axis(axis_table(tidy(rows), "form", AXIS), "title").axes[0].get_xlim()
    assert left < 0.4
    assert right > 1.0


def test_an_axis_without_results_says_so():
    table = axis_table(tidy([]), "form", AXIS)
    assert any("nothing was measured" in text for text in texts(draw_axis(table, "title")))


def test_filter_lines_run_over_sigma_by_method():
    names = {"gradients": 0.1, "gradients_sigma_4": 0.9, "gradients_sigma_4_opening": 1.0, "discrepancy_sigma_2": 2.0}
    rows = [found.model_copy(update={"variant": name}) for name, found in zip(names, results(), strict=True)]
    block = AXIS.model_copy(update={"variants": {name: {} for name in names}, "paper": {"gradients": 0.86}})
    figure = draw_filter(axis_table(tidy(rows), "form", block), "filter")
    lines = [container.lines[0].get_xdata().tolist() for container in figure.axes[0].containers]
    assert lines == [[0, 4], [2]]
    assert {"gradients", "discrepancy"} <= set(texts(figure))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["gradients", "discrepancy", "grey opening after the Gaussian", "the paper's figure"]


def test_marks_that_are_not_drawn_are_not_explained():
    block = AXIS.model_copy(update={"variants": {"gradients": {}}, "paper": {}})
    rows = [results()[0].model_copy(update={"variant": "gradients"})]
    figure = draw_filter(axis_table(tidy(rows), "form", block), "filter")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gradients"]
