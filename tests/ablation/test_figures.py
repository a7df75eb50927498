import pytest
from synthetic import AXIS, results

from kdad.ablation.comparison import axis_table
from kdad.ablation.figures import draw_axis, draw_filter, split_filter_name
from kdad.ablation.results import tidy


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
    assert figure.axes[0].containers[0].errorbar is not None


def test_an_axis_without_results_says_so():
    table = axis_table(tidy([]), "form", AXIS)
    assert any("nothing was measured" in text for text in texts(draw_axis(table, "title")))


def test_filter_lines_run_over_sigma_by_method():
    names = {"gradients": 0.1, "gradients_sigma_4": 0.9, "gradients_sigma_4_opening": 1.0, "discrepancy_sigma_2": 2.0}
    rows = [{**found, "variant": name} for name, found in zip(names, results(), strict=True)]
    block = AXIS.model_copy(update={"variants": dict.fromkeys(names, {}), "paper": {"gradients": 0.86}})
    figure = draw_filter(axis_table(tidy(rows), "form", block), "filter")
    lines = [container.lines[0].get_xdata().tolist() for container in figure.axes[0].containers]
    assert lines == [[0, 4], [2]]
    assert {"gradients", "discrepancy"} <= set(texts(figure))
