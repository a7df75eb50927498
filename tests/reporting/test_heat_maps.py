import numpy as np
import pandas as pd
import pytest

from kdad.reporting.heat_maps import choose_sheet_rows, draw_heatmap_sheet


@pytest.fixture
def scores() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "id": ["a.png", "b.png", "c.png", "d.png", "hole/$e_$.png", "f.png"],
            "kind": ["good", "good", "good", "hole", "hole", "hole"],
            "label": [0, 0, 0, 1, 1, 1],
            "score": [0.5, 3.0, 1.0, 4.0, 0.1, 1.5],
        }
    )
    return table.assign(threshold=2.0, decision=(table["score"] > 2).astype(int))


def test_sections_hold_the_extremes_and_the_mistakes(scores):
    # Threshold 2: wrong are the good image of score 3 (log ratio .41) and the holes of 0.1 (3.0) and 1.5 (.29).
    chosen = choose_sheet_rows(scores, 2)
    assert chosen == {
        "most normal": [0, 2],
        "most anomalous": [3, 5],
        "worst mistakes": [4, 1],
        "nearest the threshold": [5, 1],
    }


def test_a_section_without_images_is_left_out(scores):
    right = scores[scores["label"] == scores["decision"]].reset_index(drop=True)
    assert "worst mistakes" not in choose_sheet_rows(right, 2)
    assert list(choose_sheet_rows(scores[scores["label"] == 0], 5)) == [
        *("most normal", "worst mistakes", "nearest the threshold")
    ]


def sections(figure) -> list:
    return figure.subfigs[0].subfigs


def test_a_mask_of_nothing_is_no_black_square(scores):
    mask = np.zeros((4, 4), bool)
    mask[1:3] = True
    maps, image = np.zeros((6, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    figure = draw_heatmap_sheet(scores, maps, lambda i: image, lambda i: mask if i > 2 else mask & False, 2, "title")
    normal, anomalous, *_ = sections(figure)
    assert [bool(axes.images) for axes in normal.axes[1::4]] == [False, False]
    assert [bool(axes.images) for axes in anomalous.axes[1::4]] == [True, True]


@pytest.mark.parametrize(("with_masks", "panels"), [(True, 4), (False, 3)])
def test_sheet_has_a_mask_panel_only_where_there_are_masks(scores, with_masks, panels):
    maps = np.random.default_rng(0).random((6, 10, 14), dtype=np.float32)
    mask = np.zeros((10, 14), bool)
    mask[2:5, 3:9] = True
    figure = draw_heatmap_sheet(
        scores,
        maps,
        lambda i: np.full((3, 10, 14), 0.5, np.float32),
        lambda i: mask if with_masks else None,
        2,
        "title",
    )
    figure.canvas.draw()
    assert [len(part.axes) for part in sections(figure)] == [2 * panels] * 4
    assert "same colours in all pictures" in figure.subfigs[1].axes[0].get_xlabel()  # the bar


def test_all_maps_share_one_colour_scale(scores):
    maps = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    figure = draw_heatmap_sheet(scores, maps, lambda i: np.zeros((3, 2, 2), np.float32), lambda i: None, 2, "title")
    scales = {
        axes.images[0].get_clim()
        for part in sections(figure)
        for axes in part.axes[1::3]  # image, map, overlay
        if axes.images
    }
    assert len(scales) == 1


def captions(figure) -> list[str]:
    titles = [axes.get_title(loc="left") for part in sections(figure) for axes in part.axes]
    return [title for title in titles if title]


def test_every_image_has_its_file_its_score_and_the_threshold_beside_it(scores):
    maps = np.zeros((6, 4, 4), np.float32)
    figure = draw_heatmap_sheet(scores, maps, lambda i: np.zeros((3, 4, 4), np.float32), lambda i: None, 2, "title")
    figure.canvas.draw()  # a name with dollar signs is no formula
    assert captions(figure) == [
        *("a.png\ngood: 0.5 = 0.25 x threshold 2", "c.png\ngood: 1 = 0.50 x threshold 2"),
        *("d.png\nhole: 4 = 2.00 x threshold 2", "f.png\nhole: 1.5 = 0.75 x threshold 2 (below!)"),
        "hole/$e_$.png\nhole: 0.1 = 0.05 x threshold 2 (below!)",
        "b.png\ngood: 3 = 1.50 x threshold 2 (above!)",
        *("f.png\nhole: 1.5 = 0.75 x threshold 2 (below!)", "b.png\ngood: 3 = 1.50 x threshold 2 (above!)"),
    ]


def test_mistakes_of_scores_below_zero_are_ordered_by_their_difference(scores):
    # Threshold -1: wrong are the good image of score 0 (1 away) and the holes of -3 (2 away) and -1.5 (0.5 away).
    table = scores.assign(score=[-2.5, 0.0, -2.0, 1.0, -3.0, -1.5], threshold=-1.0)
    table["decision"] = (table["score"] > table["threshold"]).astype(int)
    assert choose_sheet_rows(table, 3)["worst mistakes"] == [4, 1, 5]


def test_a_sheet_of_scores_below_zero_can_be_drawn(scores):
    table = scores.assign(score=scores["score"] - 2, threshold=-0.5)
    maps = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)
    figure = draw_heatmap_sheet(table, maps, lambda i: np.zeros((3, 4, 4), np.float32), lambda i: None, 2, "title")
    figure.canvas.draw()
    assert captions(figure)[0] == "a.png\ngood: -1.5, threshold -0.5"
