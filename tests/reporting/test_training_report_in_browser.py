"""A training's page in a browser: the threshold, the images, the keyboard, any screen."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest
from selenium.webdriver.common.keys import Keys

from browsing import barriers_of, wait_for
from kdad.reporting.training_report import TestPictures, render_training_report
from training_reports import THRESHOLD, report, scores_table

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The browser with the page, which was opened once."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render_training_report(**report()), encoding="utf-8")
    browser.get_log("browser")  # forgets what earlier pages said
    browser.get(file.as_uri())
    return browser


@pytest.fixture
def page(opened):
    """The page as it opens."""
    opened.execute_script("window.scrollTo(0, 0)")
    opened.refresh()
    return opened


def _numbers(page) -> dict[str, int]:
    return {name: int(page.find_element("id", name).text) for name in ("tp", "fn", "fp", "tn")}


def _cards(page) -> list[str]:
    # In one go: cards come and go while one waits.
    names = "[...document.querySelectorAll('#gallery button span:first-of-type')].map(name => name.textContent)"
    return page.execute_script(f"return {names}")


def _slide(page, place: float) -> float:
    """Move the slider to a place from 0 to 1, and return the threshold that the page then has."""
    page.execute_script(
        "const slide = document.getElementById('slide'); slide.value = arguments[0];"
        "slide.dispatchEvent(new Event('input'))",
        place,
    )
    return float(page.find_element("id", "value").get_attribute("value"))


def test_counts_rates_and_mistakes_are_those_of_the_scores_at_twenty_thresholds(page, tmp_path):
    scores_table().to_csv(tmp_path / "scores.csv", index=False)
    scores = pd.read_csv(tmp_path / "scores.csv")[lambda table: table["split"] == "test"]
    label, score = scores["label"].to_numpy(), scores["score"].to_numpy()
    seen = set()
    for place in np.linspace(0, 1, 20):
        above = score > _slide(page, float(place))
        expected = {
            "tp": (above & (label == 1)).sum(),
            "fn": (~above & (label == 1)).sum(),
            "fp": (above & (label == 0)).sum(),
            "tn": (~above & (label == 0)).sum(),
        }
        assert _numbers(page) == expected
        seen.add(tuple(expected.values()))
        assert page.find_element("id", "tpr").text == f"{100 * expected['tp'] / 7:.1f} %"
        assert page.find_element("id", "fpr").text == f"{100 * expected['fp'] / 7:.1f} %"
        wrong = set(scores["id"][above != (label == 1)])
        assert {found.text for found in page.find_elements("css selector", "#mistakes button")} == wrong
        kind = page.find_element("css selector", "[data-found=broken_large]").text
        assert int(kind) == (above & (scores["kind"] == "broken_large")).sum()
    assert len(seen) > 6  # the slider does move


def test_it_opens_at_the_detectors_threshold_which_is_exceeded_by_larger_scores_alone(page):
    assert float(page.find_element("id", "value").get_attribute("value")) == THRESHOLD
    assert _numbers(page) == {"tp": 4, "fn": 3, "fp": 1, "tn": 6}
    _slide(page, 0.9)
    page.find_element("id", "reset").click()
    assert _numbers(page) == {"tp": 4, "fn": 3, "fp": 1, "tn": 6}
    assert page.find_element("id", "mistakes-head").text == "4 mistakes: 3 missed, 1 false alarm"
    low, high = binomtest(4, 7).proportion_ci(0.95, method="exact")
    assert page.find_element("id", "tpr-interval").text == f"{100 * low:.1f} % to {100 * high:.1f} %"


def test_buttons_and_kinds_choose_images(page):
    assert len(_cards(page)) == 14
    ratio = "return getComputedStyle(document.querySelector('#gallery canvas')).aspectRatio"
    assert page.execute_script(ratio) == "24 / 24"  # that of the images, so that cards keep their size when painted
    for name, count in (("mistakes", 4), ("missed", 3), ("false alarms", 1), ("borderline", 10), ("all", 14)):
        page.find_element("css selector", f'[data-show="{name}"]').click()
        wait_for(page, lambda count=count: len(_cards(page)) == count)
    page.find_element("css selector", "#choose-kind [value='of broken_large']").click()
    wait_for(page, lambda: len(_cards(page)) == 4)
    assert _cards(page)[0] == "broken_large/10.png"  # the highest score


def test_an_image_opens_and_the_arrow_keys_go_on(page):
    wait_for(page, lambda: len(_cards(page)) == 14)
    page.find_element("css selector", "#gallery button").click()
    assert barriers_of(page) == []
    name, place = page.find_element("id", "viewer-name"), page.find_element("id", "place")
    assert (name.text, place.text) == ("</script><b>/13.png", "1 of 14")
    views = [found.text for found in page.find_elements("css selector", ".views figcaption")]
    assert views == ["image", "overlay", "map", "mask"]
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert (name.text, place.text) == ("broken_large/10.png", "2 of 14")
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert place.text == "14 of 14"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.find_element("id", "viewer").is_displayed()


def test_the_map_has_the_colours_of_heat_where_the_mask_is(page):
    wait_for(page, lambda: len(_cards(page)) == 14)
    page.find_element("css selector", "#gallery button").click()
    read = """
        const canvas = document.querySelectorAll(".views canvas")[arguments[0]];
        return [[9, 9], [20, 20]].map(([x, y]) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data]);
    """
    hottest, coldest = [252, 253, 191, 255], [13, 27, 62, 255]  # the ends of the table of colours
    wait_for(page, lambda: page.execute_script(read, 2) == [hottest, coldest])
    wait_for(page, lambda: page.execute_script(read, 3) == [[255] * 4, [0, 0, 0, 255]])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_any_screen_names_every_picture_and_nothing_complains(page, width, scheme):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    try:
        page.refresh()
        wait_for(page, lambda: len(_cards(page)) == 14)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        unnamed = """
            return [...document.querySelectorAll("img, [role=img], button, input, select")].filter(each => !(
                each.alt || each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.length
            )).map(each => each.outerHTML.slice(0, 80));
        """
        assert page.execute_script(unnamed) == []
        assert width < 600 or barriers_of(page) == []
        assert page.get_log("browser") == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.long
def test_a_thousand_images_open_within_three_seconds_and_scroll(browser, tmp_path):
    rng = np.random.default_rng(0)
    given, side, count = report(), 256, 1000
    rough = [rng.random((3, side, side), dtype=np.float32) * 0.5 + 0.2 for _ in range(8)]  # noise: the largest files
    kinds = np.where(np.arange(count) % 2, "hole", "good")
    table = pd.DataFrame({"id": [f"{kind}/{n}.png" for n, kind in enumerate(kinds)], "kind": kinds, "split": "test"})
    table["label"], table["score"] = np.arange(count) % 2, rng.gamma(9.0, size=count) + np.arange(count) % 2
    scores = pd.concat([given["scores"][lambda rows: rows["split"] == "validation"], table], ignore_index=True)
    mask = np.zeros((side, side), bool)
    mask[40:90, 50:80] = True
    maps = np.repeat(gaussian_filter(rng.random((8, side, side), dtype=np.float32), (0, 6, 6)), count // 8, axis=0)
    limits = float(maps.min()), float(maps.max())
    pictures = TestPictures(lambda n: rough[n % 8], lambda n: mask, maps, limits, (side, side))
    file = tmp_path / "report.html"
    file.write_text(render_training_report(**given | {"scores": scores, "pictures": pictures}), encoding="utf-8")
    assert file.stat().st_size < 30e6
    browser.get("about:blank")
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(file.as_uri())
    browser.execute_script("document.getElementById('images').scrollIntoView()")
    painted = "return document.querySelectorAll('canvas[data-painted]').length"
    wait_for(browser, lambda: browser.execute_script(painted) > 4)
    # The seconds that the page's thread has computed, whatever else the machine does.
    assert _computed(browser) < 3
    for _ in range(30):
        browser.execute_script("scrollBy(0, 600)")
    assert _computed(browser) < 6
    assert browser.execute_script(painted) < 500  # those that were near the screen


def _computed(browser) -> float:
    found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(each["value"] for each in found if each["name"] == "ThreadTime")
