import pytest
from pages import imagined_page

pytestmark = pytest.mark.browser


def test_the_page_shows_its_tables_and_figures_without_a_complaint(browser, tmp_path):
    (tmp_path / "page.html").write_text(imagined_page(), encoding="utf-8")
    browser.get(f"file://{tmp_path}/page.html")
    rows = browser.find_elements("css selector", "table.variants tbody tr")
    assert [row.find_element("css selector", "td").text for row in rows] == ["a", "b"]
    assert "0.8050 ± 0.0071" in rows[1].text
    assert len(browser.find_elements("css selector", "table.pairs tr.real")) == 1
    images = browser.find_elements("css selector", "img")
    assert images
    assert all(browser.execute_script("return arguments[0].naturalWidth", image) > 300 for image in images)
    wide = browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
    assert not wide
    assert browser.get_log("browser") == []
