import logging

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import font_manager, rc_context, rcParams

from kdad.images.one_class import LabelledImages
from kdad.reporting import style
from kdad.reporting.curves import (
    draw_label_counts,
    draw_loss_curves,
    draw_pro,
    draw_roc,
    draw_score_histogram,
    draw_softened,
    draw_sweep,
)
from kdad.scoring.threshold import Threshold


def texts(figure) -> str:
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def roc_of(labels: list[int], scores: list[float]) -> tuple[pd.DataFrame, dict]:
    measured = {"image_auroc": 1.0, "image_auroc_low": 0.25, "image_auroc_high": 1.0}
    return pd.DataFrame({"label": labels, "score": scores, "threshold": 2.5}), measured


def test_roc_of_perfect_scores_runs_through_the_upper_left_corner():
    figure = draw_roc(*roc_of([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]), {}, {}, "mkd: textures / $rust$")
    assert "mkd: textures / $rust$" in texts(figure)
    (line,) = [line for line in figure.axes[0].lines if "image" in line.get_label()]
    assert (0.0, 1.0) in set(zip(*line.get_data(), strict=True))
    assert line.get_label() == "image score  1.0000 [0.250, 1.000]"
    (cross,) = figure.axes[0].containers  # the threshold 2.5 decides all four rightly
    assert cross.get_label() == "threshold 2.5, 95 % intervals"
    (x, y), (across, upwards) = [found[0] for found in cross[0].get_data()], [bar.get_segments()[0] for bar in cross[2]]
    assert (x, y) == (0, 1)
    edge = 0.025**0.5  # none of two, and two of two, by Clopper and Pearson
    np.testing.assert_allclose(across[:, 0], [0, 1 - edge])
    np.testing.assert_allclose(upwards[:, 1], [edge, 1])


def test_roc_shows_pixels_beside_images_and_names_each_method_with_its_area():
    curve = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0]))
    figure = draw_roc(*roc_of([0, 1], [0.0, 3.0]), {"smooth_grad": curve}, {"smooth_grad": 0.7})
    assert len(figure.axes) == 2
    assert "smooth grad  0.700" in texts(figure)


def test_roc_without_anything_to_draw_says_why():
    assert "one label only" in texts(draw_roc(pd.DataFrame(), {"image_auroc": None}, {}, {}))


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
    assert "33.3 % of normal images expected above" in text


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
    assert figure.axes  # a notebook shows no figure without


def test_softened_distributions_have_a_column_a_temperature_and_a_red_bar_for_the_label():
    images = LabelledImages(np.zeros((3, 4, 4), np.uint8), np.array([1, 0, 1]))
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 2 * np.log(3)]])
    figure = draw_softened(images, [0, 2], logits, ("even", "odd_one"), [1, 2])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["odd one", "T = 1", "T = 2", "odd one", "", ""]
    heights = [patch.get_height() for patch in figure.axes[5].patches]
    assert heights == pytest.approx([0.25, 0.75])  # 9 : 1 at T = 1 is 3 : 1 at T = 2
    colours = [patch.get_facecolor() for patch in figure.axes[5].patches]
    assert colours[0] != colours[1]


def test_sweep_has_a_line_an_alpha_with_means_over_seeds():
    rows = [(t, a, seed, t * 0.1 + a + seed * 0.2) for t in (1, 2) for a in (0.1, 0.5) for seed in (0, 1)]
    figure = draw_sweep(pd.DataFrame(rows, columns=["temperature", "alpha", "seed", "accuracy"]), 10)
    lines = figure.axes[0].containers
    assert [line.get_label() for line in lines] == ["alpha 0.1", "alpha 0.5"]
    np.testing.assert_allclose(np.asarray(lines[0].lines[0].get_ydata(), dtype=float), [0.3, 0.4])


def test_label_counts_end_with_all():
    rows = [(c, lesson, 0, 0.5, 0.1) for c in (0, 2, 10) for lesson in ("hard", "soft", "transfer")]
    labels = pd.DataFrame(rows, columns=["labels", "lesson", "seed", "accuracy", "ece"])
    figure = draw_label_counts(labels, pd.DataFrame({"accuracy": [0.9], "ece": [0.02]}))
    figure.canvas.draw()
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["2", "10", "all"]


@pytest.fixture(autouse=True)
def _forget():
    """Fonts are looked for once a process; here for each test."""
    caches = (style._families, style._letters, style._warn_once)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Let other fonts be installed."""

    def install(*names):
        fonts = [font_manager.FontEntry(fname="", name=name) for name in ("DejaVu Sans", *names)]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)

    return install


def test_what_no_font_has_is_shown_as_codes_and_said_once(monkeypatch, caplog):
    monkeypatch.setattr(style, "_OTHER_SCRIPTS", ())
    with caplog.at_level(logging.WARNING):
        assert style.drawable("划痕 Größe é 1") == "U+5212 U+75D5  Größe é 1"
        assert style.drawable("划") == "U+5212 "
    (message,) = caplog.messages
    assert "Noto Sans CJK" in message


def test_plain_names_are_left_alone_and_nothing_is_said(caplog):
    assert style.drawable("test/a$b_{c$\n000.png") == "test/a$b_{c$\n000.png"
    assert not caplog.messages


def test_an_installed_font_of_another_script_is_used(installed):
    installed("WenQuanYi Zen Hei", "Comic Sans")
    with rc_context():
        style.new_figure(1, 1)
        assert rcParams["font.family"] == ["DejaVu Sans", "WenQuanYi Zen Hei"]
