import numpy as np
import pytest
from synthetic import AXIS, result, results

from kdad.experiments.case import tidy
from kdad.experiments.figures import draw_axis, draw_filter, split_filter_name
from kdad.experiments.tables import axis_table


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
