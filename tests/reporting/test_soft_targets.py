import numpy as np
import pandas as pd
import pytest
import torch

from kdad.images.published.one_class import LabelledImages
from kdad.reporting.soft_targets import draw_label_counts, draw_softened, draw_sweep


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
