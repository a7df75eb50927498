"""The data report in a browser, bright and dark, wide and narrow."""

import pytest

from browsing import barriers_of
from data_reports import data_report, image, mask
from kdad.reporting.data_report import render_data_report

pytestmark = pytest.mark.browser


@pytest.fixture(params=["light", "dark"])
def page(browser, tmp_path, request):
    """The browser with the page opened, by either colour scheme."""
    (tmp_path / "page.html").write_text(render_data_report(**data_report(), image=image, mask=mask), encoding="utf-8")
    scheme = {"features": [{"name": "prefers-color-scheme", "value": request.param}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get_log("browser")  # forgets what earlier pages said
    browser.get((tmp_path / "page.html").as_uri())
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_everything_is_there_and_nothing_complains(page):
    assert page.get_log("browser") == []
    heads = [found.text for found in page.find_elements("tag name", "h2")]
    assert barriers_of(page) == []
    assert heads == [
        *("To look at before training", "Counts", "Files of each kind", "Masks at the model's size"),
        *("Images that are there twice", "Normal images unlike the others", "All images"),
    ]
    assert len(page.find_elements("css selector", "#warnings li")) == 4
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.execute_script("for (const each of document.images) each.loading = 'eager'")
    assert page.execute_script("return [...document.images].every(each => each.complete && each.naturalWidth > 0)")


def test_nothing_stands_over_on_a_phone(page):
    page.set_window_size(420, 800)
    try:
        wide, window = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    finally:
        page.set_window_size(1280, 900)
    assert wide <= window
