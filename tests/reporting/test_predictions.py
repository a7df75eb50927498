import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from kdad.reporting.predictions import draw_contact_sheet, render_predictions
from kdad.reporting.style import ANOMALOUS, NORMAL

ODD = '<b>&"%#ü.png'


def predicted(path: str, score: float, **changes) -> dict:
    row = {
        "path": path,
        "score": score,
        "threshold": 2.0,
        "decision": float(score > 2),
        "percentile": 0.75,
        "height": 400.0,
        "width": 800.0,
        "milliseconds": 12.4,
        "problem": None,
        "thumbnail": f"pictures/{path}",
        "heat_map": f"heat maps/{path}",
    }
    return row | changes


def unreadable(path: str, problem: str) -> dict:
    nothing = dict.fromkeys(("score", "decision", "percentile", "height", "width", "milliseconds"), np.nan)
    return predicted(path, 0.0) | nothing | {"problem": problem, "thumbnail": None, "heat_map": None}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        predicted("low.png", 1.0),
        predicted(ODD, 5.0),
        unreadable("cut.png", "only <half> a file"),
        predicted("b.png", 3.0),
    ]
    return pd.DataFrame(rows, index=[7, 7, 3, 0])  # positions count, not the index


def page_of(table: pd.DataFrame, **changes) -> str:
    values = {"title": "Predictions", "facts": [("detector", "MKD & co")], "table": table, "metrics": None} | changes
    return render_predictions(**values)


def rows_of(page: str) -> list[str]:
    return re.findall(r"<tr data-kind=.*?</tr>", page, re.DOTALL)


def names_of(page: str) -> list[str]:
    return [re.search(r'class="path"><span>.*?</span>(.*?)</td>', row)[1] for row in rows_of(page)]


def pictures(colours: dict[int, str]):
    return lambda position: Image.new("RGB", (8, 4), colours.get(position, "black"))


def test_rows_are_in_order_of_score_and_the_unreadable_come_last(table):
    assert names_of(page_of(table)) == ["&lt;b&gt;&amp;&#34;%#ü.png", "b.png", "low.png", "cut.png"]


def test_names_facts_and_problems_are_escaped(table):
    page = page_of(table, title="<i>title</i>")
    assert "<b>&" not in page
    assert "<i>" not in page
    assert "<half>" not in page
    assert "MKD &amp; co" in page
    assert 'alt="&lt;b&gt;&amp;&#34;%#ü.png"' in page


def test_links_are_relative_and_quoted(table):
    row = rows_of(page_of(table))[0]
    # < 3C, > 3E, & 26, " 22, % 25, # 23, and ü is C3 BC in UTF-8; the slash stays.
    assert 'src="pictures/%3Cb%3E%26%22%25%23%C3%BC.png"' in row
    assert 'href="heat%20maps/%3Cb%3E%26%22%25%23%C3%BC.png"' in row


def test_thumbnails_load_late_and_reserve_their_place(table):
    tags = re.findall("<img.*?>", page_of(table))
    assert len(tags) == 3
    # 800 x 400 pixels shrink to 160 x 80.
    assert all('width="160" height="80" loading="lazy"' in tag for tag in tags)


def test_an_image_without_a_heat_map_is_no_link():
    (row,) = rows_of(page_of(pd.DataFrame([predicted("a.png", 1.0, heat_map=None)])))
    assert "<img" in row
    assert "<a " not in row


def test_unreadable_files_have_a_section_with_the_reason(table):
    page = page_of(table)
    section = page[page.index('<section id="unreadable">') :]
    assert "cut.png" in section
    assert "only &lt;half&gt; a file" in section
    assert "low.png" not in section
    assert '<section id="unreadable">' not in page_of(table[table["score"].notna()])


def test_scores_are_multiples_of_the_threshold_where_that_means_something(table):
    assert "2.50 x threshold<small>score 5</small>" in page_of(table)
    below = table.assign(score=table["score"] - 4)
    assert '<td class="score" data-value="1.0">1<small>threshold 2</small>' in page_of(below)


def test_cells_show_percentile_size_and_time(table):
    row = rows_of(page_of(table))[0]
    for cell in ("75.0 %", "800 x 400", ">12<"):
        assert cell in row
    assert ">-</td>" in rows_of(page_of(table.assign(percentile=np.nan)))[0]


def test_label_column_is_there_only_when_a_label_is_known(table):
    for without in (table, table.assign(label=np.nan)):
        assert 'class="label"' not in page_of(without)
        assert 'class="mistake"' not in page_of(without)
    assert 'class="label"' in page_of(table.assign(label=[0, 1, np.nan, np.nan]))


def test_mistakes_are_marked():
    # Threshold 2: c is a normal image above it, a an anomalous one below; d is right, b has no label.
    labels = {"a.png": (1.0, 1), "b.png": (1.5, np.nan), "c.png": (3.0, 0), "d.png": (4.0, 1)}
    table = pd.DataFrame([predicted(name, score, label=label) for name, (score, label) in labels.items()])
    page = page_of(table)
    found = dict(zip(names_of(page), rows_of(page), strict=True))
    assert "<b>missed</b>" in found["a.png"]
    assert "<b>false alarm</b>" in found["c.png"]
    assert [name for name, row in found.items() if 'class="mistake"' in row] == ["c.png", "a.png"]


def test_buttons_count_their_rows(table):
    counts = dict(re.findall(r">(all|anomalous|normal|unreadable) <span>(\d+)</span>", page_of(table)))
    assert counts == {"all": "4", "anomalous": "2", "normal": "1", "unreadable": "1"}


def test_metrics_are_shown_when_there_are_any(table):
    metrics = {"image_auroc": 0.98765, "image_auroc_low": 0.9, "image_auroc_high": 1.0, "image_ap": None}
    metrics |= {"true_positive_rate": 1.0, "test_anomalous": 2, "false_positive_rate": None, "test_normal": 0}
    page = page_of(table, metrics=metrics)
    assert "<dt>image AUROC</dt><dd>0.9877<small>95 % interval 0.900 to 1.000</small></dd>" in page
    # Two of two: the lower end is the square root of 0.025.
    assert "<dd>2 of 2<small>100.0 %, 95 % interval 15.8 to 100.0 %</small></dd>" in page
    assert page.count("<div><dt>") == 2  # what was not measured has no tile
    assert "<div><dt>" not in page_of(table)


def test_page_needs_nothing_from_elsewhere(table):
    page = page_of(table)
    links = re.findall(r'(?:src|href)="(.*?)"', page)
    assert all(link == "data:," or link.startswith(("pictures/", "heat%20maps/")) for link in links)
    assert not re.findall(r"://|@import|url\(", page)
    assert "@import" not in page


def test_page_of_no_files_says_so():
    assert 'id="nothing">No file to show.' in page_of(pd.DataFrame([predicted("a.png", 1.0)]).iloc[:0])


def test_page_of_only_unreadable_files_has_no_table_of_images():
    page = page_of(pd.DataFrame([unreadable("a.png", "empty")]))
    assert names_of(page) == ["a.png"]
    assert 'id="predicted"' not in page


def test_a_name_that_is_no_utf8_can_be_written_and_linked(tmp_path):
    path = b"\xff.png".decode("utf-8", "surrogateescape")
    page = page_of(pd.DataFrame([predicted(path, 1.0)], dtype=object))  # columns of strings hold UTF-8 only
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    assert names_of(page) == ["\ufffd.png"]
    assert 'src="pictures/%FF.png"' in page


def test_contact_sheet_shows_the_highest_scores_first_in_the_colours_of_their_predictions(table):
    colours = {0: "#000010", 1: "#000020", 3: "#000030"}
    figure = draw_contact_sheet(table, pictures(colours))
    titles = [(axes.get_title(), to_hex(axes.title.get_color())) for axes in figure.axes]
    assert titles == [
        (f"{ODD}\n2.50 x threshold", ANOMALOUS),
        ("b.png\n1.50 x threshold", ANOMALOUS),
        ("low.png\n0.50 x threshold", NORMAL),
    ]
    assert [int(axes.images[0].get_array()[0, 0, 2]) for axes in figure.axes] == [0x20, 0x30, 0x10]


def test_contact_sheet_shows_at_most_count_images():
    table = pd.DataFrame([predicted(f"folder/{i}.png", float(i)) for i in range(30)])
    figure = draw_contact_sheet(table, pictures({}), 11)
    shown = [axes.get_title().splitlines()[0] for axes in figure.axes if axes.axison]
    assert shown == [f"{i}.png" for i in range(29, 18, -1)]
    assert "11 of 30 images" in figure.get_suptitle()


def test_contact_sheet_shows_plain_scores_where_they_can_be_negative():
    table = pd.DataFrame([predicted("a.png", -1.25), predicted("b.png", 3.5)])
    titles = [axes.get_title() for axes in draw_contact_sheet(table, pictures({})).axes]
    assert titles == ["b.png\n3.5", "a.png\n-1.25"]


def test_dollars_in_a_name_are_no_formula():
    figure = draw_contact_sheet(pd.DataFrame([predicted("$\\no{formula$.png", 1.0)]), pictures({}))
    figure.savefig(io.BytesIO())  # lays out and draws the texts, which a bare figure's canvas does not


def test_contact_sheet_without_a_predicted_image_says_so():
    figure = draw_contact_sheet(pd.DataFrame([unreadable("a.png", "empty")]), pictures({}))
    assert [text.get_text() for text in figure.texts] == ["no image to show"]
