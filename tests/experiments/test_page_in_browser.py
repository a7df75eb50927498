"""Pages as people use them: with a keyboard, on a phone, in the dark."""

import pytest
from pages import METHODS, RUN, imagined_baselines, imagined_page, imagined_papers
from selenium.webdriver.common.keys import Keys

from browsing import barriers_of

pytestmark = pytest.mark.browser

MKD = f"mkd ({RUN})"
PAGES = {"ablation": imagined_page, "baselines": imagined_baselines, "papers": imagined_papers}


@pytest.fixture
def show(browser, tmp_path):
    """Show the page of that name, on a screen that is `width` pixels wide."""

    def open_page(name: str, width: int = 1280):
        (tmp_path / "page.html").write_text(PAGES[name](), encoding="utf-8")
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get_log("browser")  # forgets what earlier pages said
        browser.get(f"file://{tmp_path}/page.html")
        return browser

    yield open_page
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def head_of(page, text: str):
    (found,) = [
        head for head in page.find_elements("css selector", "th[aria-sort]") if head.text.split("\n")[0] == text
    ]
    return found


def names(page, kind: str = "sortable") -> list[str]:
    return [cell.text for cell in page.find_elements("css selector", f"table.{kind} tbody th")]


def test_the_page_shows_its_tables_and_figures_without_a_complaint(show):
    page = show("ablation")
    rows = page.find_elements("css selector", "table.variants tbody tr")
    assert [row.find_element("css selector", "th").text for row in rows] == ["a", "b"]
    assert "0.8050 ± 0.0071" in rows[1].text
    assert len(page.find_elements("css selector", "table.pairs tr.real")) == 1
    images = page.find_elements("css selector", "img")
    assert images
    assert all(page.execute_script("return arguments[0].naturalWidth", image) > 300 for image in images)
    assert page.get_log("browser") == []


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen_and_wide_tables_scroll_by_themselves(show, name, width):
    page = show(name, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    if (name, width) == ("baselines", 1280):  # headings are broken into lines before columns are out of sight
        box = page.find_element("css selector", ".scroll")
        assert page.execute_script("return arguments[0].scrollWidth - arguments[0].clientWidth", box) <= 0
    assert page.find_elements("css selector", ".scroll:not([tabindex])") == []  # the keyboard reaches all that scrolls
    if width == 375:
        moved = page.execute_script("""
            const box = document.querySelector(".scroll"), cells = box.querySelectorAll("tbody tr:first-child > *");
            const before = [...cells].map(cell => cell.getBoundingClientRect().left);
            box.scrollLeft = 60;
            return [...cells].map((cell, place) => before[place] - cell.getBoundingClientRect().left);
        """)
        assert moved[0] == pytest.approx(0, abs=16)  # the name stays, at most the box's own edge goes
        assert moved[1] == 60


def test_a_column_is_sorted_by_the_keyboard_and_returns_to_its_order(show):
    page = show("baselines")
    head = head_of(page, "image AUROC")
    button = head.find_element("css selector", "button")
    own = names(page)  # of AUROC 0.7, 0.9, 0.8, 0.75
    assert own == [*(name.replace("_", " ") for name in METHODS[:-1]), MKD]
    for state, expected in (("descending", [1, 2, 3, 0]), ("ascending", [0, 3, 2, 1]), ("none", [0, 1, 2, 3])):
        button.send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == state
        assert names(page) == [own[place] for place in expected]


def test_what_was_not_measured_stays_below(show):
    page = show("baselines")
    button = head_of(page, "pixel AUROC").find_element("css selector", "button")
    for expected in (["memory bank", MKD, "nearest", "vae"], ["nearest", MKD, "memory bank", "vae"]):
        button.click()
        assert names(page) == expected


def test_one_column_is_sorted_at_a_time_and_words_begin_with_the_first(show):
    page = show("baselines")
    for text, expected in (("image AUROC", "descending"), ("method", "ascending")):
        head_of(page, text).find_element("css selector", "button").click()
        sorted_by = page.find_elements("css selector", 'th[aria-sort$="ending"]')
        assert [found.get_attribute("aria-sort") for found in sorted_by] == [expected]
    assert names(page) == ["memory bank", MKD, "nearest", "vae"]


def test_the_mean_stays_below_and_every_single_figure_can_be_sorted_by(show):
    page = show("papers")
    head_of(page, "ours").find_element("css selector", "button").click()
    assert names(page) == ["10", "0", "1"]  # 99, 95, 85.5
    head_of(page, "category").find_element("css selector", "button").click()
    assert names(page) == ["10", "1", "0"]  # numbers, the highest first
    assert [cell.text for cell in page.find_elements("css selector", "tfoot th")] == ["mean"]


@pytest.mark.parametrize(("name", "kinds"), [("ablation", ["svg+xml"]), ("baselines", ["svg+xml", "png"])])
def test_figures_open_at_full_size_on_a_phone(show, name, kinds):
    page = show(name, 375)
    links = page.find_elements("css selector", "a.full")
    assert len(links) == len(kinds)
    for link, kind in zip(links, kinds, strict=True):
        shown = link.find_element("css selector", "img")
        small, full = (page.execute_script(f"return arguments[0].{size}", shown) for size in ("width", "naturalWidth"))
        assert small <= 375 < full
        before = page.current_window_handle
        page.execute_script("arguments[0].click()", link)
        page.switch_to.window(page.window_handles[-1])
        assert page.execute_script("return document.contentType") == f"image/{kind}"
        page.close()
        page.switch_to.window(before)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_and_its_figures_follow_the_colour_scheme(show, name):
    page = show(name)
    seen = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert name != "ablation" or barriers_of(page) == []  # the others are made of the same parts
        back, ink = (
            page.execute_script(f"return getComputedStyle(document.body).{value}")
            for value in ("backgroundColor", "color")
        )
        seen[scheme] = back, ink
    assert seen == {
        "light": ("rgb(255, 255, 255)", "rgb(43, 43, 43)"),
        "dark": ("rgb(27, 29, 32)", "rgb(232, 232, 232)"),
    }
