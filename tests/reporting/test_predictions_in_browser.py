from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from browsing import barriers_of
from kdad.reporting.overlays import overlay_heat, thumbnail
from kdad.reporting.predictions import render_predictions

pytestmark = pytest.mark.browser

# In order of path, not of score; threshold 1.
SCORES = {
    "line 1/50%.png": 0.5,
    'line 1/<b>&"%#ü.png': 3.0,
    "line 2/a?b.png": 0.75,
    "line 2/plain.png": 1.5,
    "line 2/a_very_long_name" + "_that_goes_on" * 8 + ".png": 2.0,
}
BY_SCORE = sorted(SCORES, key=SCORES.get, reverse=True)
FOLDER = "pictures of #1"


@pytest.fixture
def page(browser, tmp_path):
    """The browser with the page of five images and an unreadable file opened from its folder."""
    rows = [_predict(tmp_path, path, score) for path, score in SCORES.items()]
    rows.append({**dict.fromkeys(rows[0], np.nan), "path": "line 1/cut.png", "problem": "truncated", "threshold": 1.0})
    html = render_predictions("Predictions", [("detector", "MKD")], pd.DataFrame(rows), {"image_auroc": 0.9})
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    browser.get_log("browser")  # forgets what earlier pages said
    browser.get((tmp_path / "page.html").as_uri())
    return browser


def _predict(folder: Path, path: str, score: float) -> dict:
    image = np.full((3, 240, 320), 0.5, np.float32)
    heat_map = overlay_heat(image, np.array([[0, score], [0, 0]], np.float32), (0.0, 3.0))
    names = {"heat_map": f"{FOLDER}/{path}", "thumbnail": f"{FOLDER}/small/{path}"}
    for name, picture in (("heat_map", heat_map), ("thumbnail", thumbnail(heat_map))):
        (folder / names[name]).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / names[name])
    measured = {"percentile": 0.5, "height": 240, "width": 320, "milliseconds": 3.0, "problem": None, "label": 1.0}
    return {"path": path, "score": score, "threshold": 1.0, "decision": float(score > 1), **measured, **names}


def _shown(page) -> list[str]:
    return [cell.text for cell in page.find_elements("css selector", "tbody .path") if cell.is_displayed()]


def _press(page, name: str) -> None:
    page.find_element("css selector", f'button[data-show="{name}"]').click()


def test_all_thumbnails_load_and_nothing_complains(page):
    # Late loading is for those who scroll; here all pictures are wanted at once.
    sizes = page.execute_async_script("""
        const images = [...document.images], done = arguments[0];
        for (const image of images) image.loading = "eager";
        Promise.allSettled(images.map(image => image.decode()))
            .then(() => done(images.map(image => [image.naturalWidth, image.naturalHeight, image.width])));
    """)
    assert sizes == [[160, 120, 160]] * len(SCORES)
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    for scheme in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert barriers_of(page) == []


def test_a_thumbnail_opens_the_heat_map(page):
    page.find_element("css selector", "#predicted a img").click()
    assert page.execute_script("return document.contentType") == "image/png"
    assert page.execute_script("return [document.images[0].naturalWidth, document.images[0].naturalHeight]") == [
        320,
        240,
    ]


def test_rows_are_in_order_of_score(page):
    assert _shown(page) == [*BY_SCORE, "line 1/cut.png"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("anomalous", BY_SCORE[:3]),
        ("normal", BY_SCORE[3:]),
        ("unreadable", ["line 1/cut.png"]),
        ("all", [*BY_SCORE, "line 1/cut.png"]),
    ],
)
def test_buttons_show_rows_of_one_kind(page, kind, expected):
    _press(page, "normal")
    _press(page, kind)
    assert _shown(page) == expected
    pressed = page.find_elements("css selector", 'button[aria-pressed="true"]')
    assert [button.get_attribute("data-show") for button in pressed] == [kind]
    assert page.find_element("id", "predicted").is_displayed() == (kind != "unreadable")
    assert page.find_element("id", "unreadable").is_displayed() == (kind in ("unreadable", "all"))


def test_text_shows_rows_with_it_in_their_path_and_goes_with_the_buttons(page):
    words = page.find_element("id", "words")
    words.send_keys("LINE 1/")
    assert _shown(page) == ['line 1/<b>&"%#ü.png', "line 1/50%.png", "line 1/cut.png"]
    _press(page, "normal")
    assert _shown(page) == ["line 1/50%.png"]
    words.send_keys("nowhere")
    assert _shown(page) == []
    assert page.find_element("id", "nothing").is_displayed()


def test_text_finds_accents_however_they_are_spelled(page):
    page.find_element("id", "words").send_keys("u\u0308.png")
    assert _shown(page) == ['line 1/<b>&"%#ü.png']


@pytest.mark.parametrize("width", [360, 1280])
def test_rows_are_sorted_by_score_and_by_file_on_any_screen(page, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        heads = {
            head.text.split("\n")[0]: head for head in page.find_elements("css selector", "#predicted th[aria-sort]")
        }
        score, file = (heads[name].find_element("css selector", "button") for name in ("score", "file"))
        score.click()
        score.click()
        assert _shown(page) == [*BY_SCORE[::-1], "line 1/cut.png"]
        file.click()
        assert [path[:6] for path in _shown(page)] == ["line 1"] * 2 + ["line 2"] * 3 + ["line 1"]  # the last is no row
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_page_fits_its_screen(page, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
