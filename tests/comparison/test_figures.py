import numpy as np
import pytest
from synthetic import AXIS, result, results

from kdad.comparison.figures import draw_axis, draw_filter, split_filter_name
from kdad.comparison.results import tidy
from kdad.comparison.tables import axis_table


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


def test_bars_show_each_variants_mean_and_spread():
    table = axis_table(tidy(results()), "form", AXIS)
    figure = draw_axis(table, "Is b better?")
    assert len(figure.axes) == 2  # image and pixel AUROC; PRO was not measured
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.525, 0.805])
    assert "0.805" in texts(figure)
    (bars,) = [found.errorbar for found in figure.axes[0].containers if hasattr(found, "errorbar")]
    ends = [segment[:, 0] for segment in bars.lines[2][0].get_segments()]
    sd = 0.01 / 2**0.5  # of seeds 0.01 apart
    np.testing.assert_allclose(ends, [[0.525 - sd, 0.525 + sd], [0.805 - sd, 0.805 + sd]])


def test_one_case_has_its_bootstrap_interval_for_error_bars():
    rows = [result("a", 0, 0.2)]
    rows[0].metrics.update(image_auroc_low=0.4, image_auroc_high=0.6)
    image, pixel = draw_axis(axis_table(tidy(rows), "form", AXIS), "title").axes
    (bars,) = [found.errorbar for found in image.containers if hasattr(found, "errorbar")]
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0][:, 0], [0.4, 0.6])
    assert all(found.errorbar is None for found in pixel.containers)  # nothing is known of its spread


def test_a_cut_axis_says_so():
    figure = draw_axis(axis_table(tidy(results()), "form", AXIS), "title")
    assert all(axes.get_xlim()[0] > 0 and "axis cut" in axes.get_xlabel() for axes in figure.axes)


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
