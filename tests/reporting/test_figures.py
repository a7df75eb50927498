import numpy as np
import pandas as pd

from kdad.reporting.curves import draw_loss_curves, draw_pro, draw_roc, draw_score_histogram
from kdad.scoring.threshold import Threshold


def texts(figure) -> str:
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def test_roc_of_perfect_scores_runs_through_the_upper_left_corner():
    figure = draw_roc(np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 4.0]), 1.0, {}, {})
    (line,) = [line for line in figure.axes[0].lines if "image" in line.get_label()]
    assert (0.0, 1.0) in set(zip(*line.get_data(), strict=True))


def test_roc_shows_pixels_beside_images_and_names_each_method_with_its_area():
    curve = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0]))
    figure = draw_roc(np.array([0, 1]), np.array([0.0, 1.0]), 1.0, {"smooth_grad": curve}, {"smooth_grad": 0.7})
    assert len(figure.axes) == 2
    assert "smooth grad  0.700" in texts(figure)


def test_roc_without_anything_to_draw_says_why():
    assert "one label only" in texts(draw_roc(np.zeros(3), np.arange(3.0), None, {}, {}))


def test_pro_is_cut_at_its_limit_and_says_why_it_is_missing():
    curve = (np.array([0.0, 0.3]), np.array([0.0, 0.8]))
    figure = draw_pro({"discrepancy": curve}, {"discrepancy": 0.4}, 0.3, None)
    assert figure.axes[0].get_xlim() == (0, 0.3)
    assert "this image set has no masks" in texts(draw_pro({}, {}, 0.3, "this image set has no masks"))


def threshold_of(value: float, rate: float) -> Threshold:
    return Threshold(
        value=value,
        rule="quantile",
        wanted=0.5,
        expected_false_positive_rate=rate,
        false_positive_rate_bound=0.9,
        normal_images=2,
    )


def test_histogram_counts_every_image_once_and_states_the_promised_rate():
    scores = pd.DataFrame(
        {
            "split": ["validation"] * 2 + ["test"] * 4,
            "label": [0, 0, 0, 1, 1, 1],
            "score": [1.0, 2.0, 1.5, 3.0, 4.0, 5.0],
        }
    )
    figure = draw_score_histogram(scores, threshold_of(2.0, 1 / 3))
    text = texts(figure)
    assert "normal validation (2)" in text
    assert "test normal (1)" in text
    assert "test anomalous (3)" in text
    assert "33.3% of normal images expected above" in text


def test_histogram_of_equal_scores_can_be_drawn():
    scores = pd.DataFrame({"split": ["validation", "test"], "label": [0, 0], "score": [1.0, 1.0]})
    texts(draw_score_histogram(scores, threshold_of(1.0, 0.5)))


def test_loss_curves_have_a_panel_for_each_term_and_a_line_for_each_split():
    history = pd.DataFrame(
        [
            {"epoch": epoch, "split": split, "term": term, "value": 1.0 / (epoch + 1)}
            for epoch in range(3)
            for split in ("training", "validation")
            for term in ("total", "L_val", "L_dir")
        ]
    )
    figure = draw_loss_curves(history)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["total", "L val", "L dir"]
    assert all(list(line.get_xdata()) == [1, 2, 3] for axes in figure.axes for line in axes.lines)


def test_loss_curves_of_many_terms_take_several_rows():
    history = pd.DataFrame(
        [
            {"epoch": epoch, "split": "training", "term": f"term_{term}", "value": 0.5 - term}
            for epoch in range(2)
            for term in range(6)
        ]
    )
    figure = draw_loss_curves(history)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [f"term {term}" for term in range(6)]
    assert len({round(axes.get_position().y0, 3) for axes in shown}) == 2
    # Term 0 alone is above zero, where a logarithmic scale shows all.
    assert [axes.get_yscale() for axes in shown] == ["log"] + ["linear"] * 5


def test_loss_curves_of_what_learns_without_epochs_say_so():
    figure = draw_loss_curves(pd.DataFrame(columns=["epoch", "split", "term", "value"]))
    assert [text.get_text() for text in figure.texts] == ["fitted without epochs: no loss"]
